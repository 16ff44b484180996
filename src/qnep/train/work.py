"""Losses and gradients over a data set: in this process, or divided among several."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import torch
import torch.multiprocessing as multiprocessing

from qnep.train.batch import Batch, BatchBuilder, estimate_memory, map_tensors
from qnep.train.forward import Forward, Prediction
from qnep.train.frames import Frame
from qnep.train.loss import ErrorSums, Loss
from qnep.train.parameters import ParameterLayout
from qnep.train.settings import LossWeights

if TYPE_CHECKING:
    from qnep.model import Model

log = logging.getLogger(__name__)

SHARE_OF_FREE_MEMORY = 0.8


class BatchStore:
    """The batches of a data set, all in memory or, where they do not fit, on disk and read when needed.

    Parameters
    ----------
    builder : makes the tables.
    frames : the data set.
    groups : frame numbers of each batch.
    device : where the batches are used.
    budget : bytes that the tables may take.
    """

    def __init__(
        self,
        builder: BatchBuilder,
        frames: Sequence[Frame],
        groups: Sequence[Sequence[int]],
        device: torch.device,
        budget: float,
    ) -> None:
        self._device = device
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        needed = estimate_memory(
            builder.model,
            [[frames[i] for i in group] for group in groups],
            "double" if builder.dtype == torch.float64 else "single",
        )
        is_streamed = needed > budget
        where = "on disk, read batch by batch" if is_streamed else "in memory"
        log.info(
            "tables of %d structures: about %.2f GB of %.2f GB allowed, kept %s",
            sum(map(len, groups)),
            needed / 1e9,
            budget / 1e9,
            where,
        )
        if is_streamed:
            self._folder = tempfile.TemporaryDirectory(prefix="qnep-train-")
        self._batches = [
            self._keep(builder.build([frames[i] for i in group], group), number) if group else None
            for number, group in enumerate(groups)
        ]

    def __len__(self) -> int:
        return len(self._batches)

    def _keep(self, batch: Batch, number: int) -> Batch:
        if self._folder is None:
            return batch.to(self._device)
        torch.save(batch.tensors(), self._path(number))
        return map_tensors(batch, lambda tensor: tensor.new_empty(0))

    def memory(self) -> int:
        """Return the bytes of the batches in memory; those on disk have empty tensors here."""
        return sum(batch.memory() for batch in self._batches if batch is not None)

    def close(self) -> None:
        """Remove what is on disk."""
        if self._folder is not None:
            self._folder.cleanup()

    def _path(self, number: int) -> Path:
        assert self._folder is not None
        return Path(self._folder.name) / f"batch{number}.pt"

    def __getitem__(self, number: int) -> Batch | None:
        """Return a batch; None for an empty share of a batch."""
        batch = self._batches[number]
        if self._folder is None or batch is None:
            return batch
        tensors = iter(torch.load(self._path(number), weights_only=True, mmap=True))
        return map_tensors(batch, lambda _: next(tensors).to(self._device))

    def __iter__(self) -> Iterator[Batch]:
        return (batch for number in range(len(self)) if (batch := self[number]) is not None)


def free_memory() -> float:
    """Return the bytes that the tables may take if nothing else is said."""
    return SHARE_OF_FREE_MEMORY * psutil.virtual_memory().available


@dataclass(frozen=True)
class WorkPlan:
    """What a worker needs to know; small enough to be sent to another process.

    model_text : the model file with settings and scaling factors.
    groups : frame numbers of each batch.
    """

    model_text: str
    frames: list[Frame]
    groups: list[list[int]]
    weights: LossWeights
    precision: str
    device: str
    budget: float

    def share(self, rank: int, n_workers: int) -> WorkPlan:
        """Return the part of one of several workers: every n-th structure of each batch."""
        groups = [group[rank::n_workers] for group in self.groups]
        used = sorted({i for group in groups for i in group})
        place = {number: index for index, number in enumerate(used)}
        return WorkPlan(
            self.model_text,
            [self.frames[i] for i in used],
            [[place[i] for i in group] for group in groups],
            self.weights,
            self.precision,
            self.device,
            self.budget / n_workers,
        )

    def numbers(self, rank: int, n_workers: int) -> list[int]:
        """Return the frame numbers of a share, in its order."""
        return sorted({i for group in self.groups for i in group[rank::n_workers]})


def _use_one_quick_thread() -> None:
    """Set this process up for training.

    Processes scale better than threads here. Numbers below 1e-38 count as zero: saturated neurons make many, and
    arithmetic with them is many times slower on many processors.
    """
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)


class LocalWork:
    """Losses and gradients of batches in this process."""

    def __init__(self, plan: WorkPlan) -> None:
        from qnep.model import Model

        self.model: Model = Model.parse(plan.model_text, "model in training")
        self.layout = ParameterLayout(self.model)
        self.device = torch.device(plan.device)
        builder = BatchBuilder(self.model, plan.precision)
        self.dtype = builder.dtype
        self.forward = Forward(self.layout, self._scalers())
        self.loss = Loss(plan.weights)
        self.store = BatchStore(builder, plan.frames, plan.groups, self.device, plan.budget)
        self.groups = plan.groups
        self.n_batches = len(plan.groups)
        self.factors = torch.ones(len(plan.frames), dtype=self.dtype, device=self.device)

    def _scalers(self) -> torch.Tensor:
        start, stop = self.model.scaler_offset, self.model.zbl_offset
        values = np.array(self.model.parameters[start:stop])
        return torch.from_numpy(values).to(self.device)

    def set_scalers(self, scalers: np.ndarray) -> None:
        """Use other scaling factors of the descriptors."""
        self.forward.scalers = torch.from_numpy(scalers).to(self.device)

    def set_factors(self, factors: np.ndarray) -> None:
        """Multiply the squared errors of each structure [n_frames]; a bootstrap sample."""
        self.factors = torch.from_numpy(factors).to(device=self.device, dtype=self.dtype)

    def predict(self, vector: torch.Tensor, batch: Batch) -> Prediction:
        """Evaluate a batch, with Born charges where there are references."""
        with_born = batch.labels.born_charges is not None and self.loss.weights.born > 0
        return self.forward(vector, batch, with_born_charges=with_born)

    def counts(self, number: int) -> dict[str, float]:
        """Return the numbers of references of a batch."""
        batch = self.store[number]
        return {} if batch is None else self.loss.counts(batch, self.model.charge_mode > 0)

    def gradient(
        self,
        vector: torch.Tensor,
        number: int,
        scales: Mapping[str, float],
        counts: Mapping[str, float],
    ) -> tuple[ErrorSums, torch.Tensor]:
        """Return the errors of a batch and the gradient of its loss; `counts` of the whole batch."""
        batch = self.store[number]
        if batch is None:
            return ErrorSums(), torch.zeros_like(vector)
        self.loss.rescale(scales)
        variable = vector.detach().clone().requires_grad_(True)
        sums = self.loss.sums(self.predict(variable, batch), batch, self.factors)
        (gradient,) = torch.autograd.grad(self.loss.value(sums, counts), variable)
        return sums.detached(), gradient

    def errors(self, vector: torch.Tensor, number: int, scales: Mapping[str, float]) -> ErrorSums:
        """Return the errors of a batch."""
        batch = self.store[number]
        if batch is None:
            return ErrorSums()
        self.loss.rescale(scales)
        with torch.no_grad():
            return self.loss.sums(self.predict(vector, batch), batch, self.factors)

    def energy_errors(self, vector: torch.Tensor) -> np.ndarray:
        """Return predicted minus reference energies of the structures, eV [n_frames]."""
        errors = np.zeros(len(self.factors))
        for batch in self.store:
            with torch.no_grad():
                found = self.forward(vector, batch).energies - batch.labels.energies
            errors[batch.frame_numbers] = found.cpu().numpy()
        return errors

    def largest_neighbors(self) -> tuple[int, int]:
        """Return the largest numbers of radial and angular neighbours, a memory hint in the model file."""
        largest = [0, 0]
        for batch in self.store:
            for kind, pairs in enumerate((batch.radial, batch.angular)):
                largest[kind] = max(largest[kind], int(pairs.rows.diff().max()))
        return largest[0], largest[1]

    def memory(self) -> int:
        """Return the bytes of the tables that are in memory."""
        return self.store.memory()

    def close(self) -> None:
        """Remove what is on disk."""
        self.store.close()


class ParallelWork:
    """The same, with the structures of every batch divided among processes.

    Sums and gradients are added in the order of the processes, so a run can be repeated exactly.
    """

    def __init__(self, plan: WorkPlan, n_processes: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.groups = plan.groups
        self.n_batches = len(plan.groups)
        self._numbers = [plan.numbers(rank, n_processes) for rank in range(n_processes)]
        self._connections: list[Connection] = []
        self._processes = []
        for rank in range(1, n_processes):
            mine, theirs = context.Pipe()
            process = context.Process(
                target=_serve, args=(theirs, plan.share(rank, n_processes)), daemon=True
            )
            process.start()
            theirs.close()
            self._connections.append(mine)
            self._processes.append(process)
        self._local = LocalWork(plan.share(0, n_processes))
        self.layout, self.model, self.loss = self._local.layout, self._local.model, self._local.loss
        self.device, self.forward = self._local.device, self._local.forward
        n_parameters = self.layout.n_trained
        self._vector = torch.zeros(n_parameters, dtype=torch.float64).share_memory_()
        self._gradients = torch.zeros(
            n_processes, n_parameters, dtype=torch.float64
        ).share_memory_()
        for rank in range(1, n_processes):
            self._ask(rank, "share", self._vector, self._gradients[rank])
        self._collect()

    def _ask(self, rank: int, command: str, *arguments: Any) -> None:
        self._connections[rank - 1].send((command, arguments))

    def _ask_all(self, command: str, *arguments: Any) -> None:
        for rank in range(1, len(self._numbers)):
            self._ask(rank, command, *arguments)

    def _collect(self) -> list[Any]:
        answers = []
        for connection in self._connections:
            try:
                failure, is_wrong_input, answer = connection.recv()
            except EOFError as lost:
                raise RuntimeError("a training process ended; was it short of memory?") from lost
            if is_wrong_input:
                raise ValueError(failure)
            if failure:
                raise RuntimeError(f"a training process failed: {failure}")
            answers.append(answer)
        return answers

    def set_scalers(self, scalers: np.ndarray) -> None:
        """See `LocalWork.set_scalers`."""
        self._ask_all("set_scalers", scalers)
        self._local.set_scalers(scalers)
        self._collect()

    def set_factors(self, factors: np.ndarray) -> None:
        """See `LocalWork.set_factors`."""
        for rank in range(1, len(self._numbers)):
            self._ask(rank, "set_factors", factors[self._numbers[rank]])
        self._local.set_factors(factors[self._numbers[0]])
        self._collect()

    def counts(self, number: int) -> dict[str, float]:
        """See `LocalWork.counts`."""
        self._ask_all("counts", number)
        total = self._local.counts(number)
        for counts in self._collect():
            for term, count in counts.items():
                total[term] = total.get(term, 0.0) + count
        return total

    def gradient(
        self,
        vector: torch.Tensor,
        number: int,
        scales: Mapping[str, float],
        counts: Mapping[str, float],
    ) -> tuple[ErrorSums, torch.Tensor]:
        """See `LocalWork.gradient`."""
        self._vector.copy_(vector.detach())
        self._ask_all("gradient", number, dict(scales), dict(counts))
        sums, gradient = self._local.gradient(vector, number, scales, counts)
        for rank, others in enumerate(self._collect(), start=1):
            sums.add(others)
            gradient = gradient + self._gradients[rank]
        return sums, gradient

    def errors(self, vector: torch.Tensor, number: int, scales: Mapping[str, float]) -> ErrorSums:
        """See `LocalWork.errors`."""
        self._vector.copy_(vector.detach())
        self._ask_all("errors", number, dict(scales))
        sums = self._local.errors(vector, number, scales)
        for others in self._collect():
            sums.add(others)
        return sums

    def energy_errors(self, vector: torch.Tensor) -> np.ndarray:
        """See `LocalWork.energy_errors`."""
        self._vector.copy_(vector)
        self._ask_all("energy_errors")
        errors = np.zeros(sum(map(len, self._numbers)))
        errors[self._numbers[0]] = self._local.energy_errors(vector)
        for numbers, found in zip(self._numbers[1:], self._collect(), strict=True):
            errors[numbers] = found
        return errors

    def largest_neighbors(self) -> tuple[int, int]:
        """See `LocalWork.largest_neighbors`."""
        self._ask_all("largest_neighbors")
        found = [self._local.largest_neighbors(), *self._collect()]
        return max(pair[0] for pair in found), max(pair[1] for pair in found)

    def memory(self) -> int:
        """See `LocalWork.memory`."""
        self._ask_all("memory")
        return self._local.memory() + sum(self._collect())

    def close(self) -> None:
        """End the other processes."""
        self._local.close()
        for connection in self._connections:
            connection.close()
        for process in self._processes:
            process.join(timeout=10)


class _Server:
    """The other end of `ParallelWork`: runs one command after the other."""

    def __init__(self, plan: WorkPlan) -> None:
        self._work = LocalWork(plan)

    def close(self) -> None:
        self._work.close()

    def share(self, vector: torch.Tensor, gradient: torch.Tensor) -> None:
        self._vector, self._gradient = vector, gradient

    def set_scalers(self, scalers: np.ndarray) -> None:
        self._work.set_scalers(scalers)

    def set_factors(self, factors: np.ndarray) -> None:
        self._work.set_factors(factors)

    def counts(self, number: int) -> dict[str, float]:
        return self._work.counts(number)

    def energy_errors(self) -> np.ndarray:
        return self._work.energy_errors(self._vector)

    def memory(self) -> int:
        return self._work.memory()

    def largest_neighbors(self) -> tuple[int, int]:
        return self._work.largest_neighbors()

    def gradient(
        self, number: int, scales: Mapping[str, float], counts: Mapping[str, float]
    ) -> ErrorSums:
        sums, gradient = self._work.gradient(self._vector, number, scales, counts)
        self._gradient.copy_(gradient)
        return sums.as_numbers()

    def errors(self, number: int, scales: Mapping[str, float]) -> ErrorSums:
        return self._work.errors(self._vector, number, scales).as_numbers()


def _serve(connection: Connection, plan: WorkPlan) -> None:
    """Answer until the other end is closed."""
    _use_one_quick_thread()
    server = None
    while True:
        try:
            command, arguments = connection.recv()
        except (EOFError, KeyboardInterrupt):
            if server is not None:
                server.close()
            return
        try:
            server = server or _Server(plan)
            connection.send(("", False, getattr(server, command)(*arguments)))
        except ValueError as failure:  # a sentence about the data, as in a single process
            connection.send((str(failure), True, None))
        except Exception as failure:
            connection.send((f"{type(failure).__name__}: {failure}", False, None))


def make_work(plan: WorkPlan, n_processes: int) -> LocalWork | ParallelWork:
    """Return work in one process or several, each with one thread."""
    _use_one_quick_thread()
    if n_processes == 1:
        return LocalWork(plan)
    return ParallelWork(plan, n_processes)
