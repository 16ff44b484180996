"""Ways to change the parameter vector: Adam with its schedule, L-BFGS to polish, an evolution strategy to compare."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

LBFGS_STEPS = 20
CLIP_MEMORY = 0.9  # of the running mean of the gradient norm


@dataclass(frozen=True)
class Schedule:
    """Learning rate: linear warm-up, at most a tenth of all steps, then half a cosine."""

    start: float
    final: float
    warm_up_steps: int
    n_steps: int

    def rate(self, step: int) -> float:
        """Return the rate of a step, counted from 0."""
        warm_up_steps = min(self.warm_up_steps, self.n_steps // 10)
        if step < warm_up_steps:
            return self.start * (step + 1) / warm_up_steps
        progress = (step - warm_up_steps) / max(1, self.n_steps - warm_up_steps)
        return self.final + 0.5 * (self.start - self.final) * (
            1 + math.cos(math.pi * min(1.0, progress))
        )


class Adam:
    """Adam on one vector, with decoupled weight decay of some of its numbers, clipping and an average.

    Parameters
    ----------
    vector : [n], where to start.
    decays : [n], 1 where weight decay acts.
    weight_decay : per unit of the learning rate.
    clip : gradients longer than so many running means are shortened, 0: never; gradients of zero do not count.
    averaging : factor of the running average of the vector.
    """

    def __init__(
        self,
        vector: torch.Tensor,
        decays: torch.Tensor,
        weight_decay: float,
        clip: float,
        averaging: float,
    ) -> None:
        self.vector = vector.clone().requires_grad_(True)
        self.average = vector.clone()
        self._decays = decays
        self._weight_decay = weight_decay
        self._clip = clip
        self._averaging = averaging
        self._norm = torch.zeros((), dtype=torch.float64)
        self._adam = torch.optim.Adam([self.vector])
        self.n_steps = 0

    def step(self, gradient: torch.Tensor, rate: float) -> None:
        """Move along a gradient."""
        self.vector.grad = self._clipped(gradient)
        for group in self._adam.param_groups:
            group["lr"] = rate
        with torch.no_grad():
            if self._weight_decay > 0:
                self.vector.mul_(1 - rate * self._weight_decay * self._decays)
            self._adam.step()
            self.n_steps += 1
            keep = min(self._averaging, 1 - 1 / self.n_steps)  # a plain mean at first
            self.average.lerp_(self.vector.detach(), 1 - keep)

    def _clipped(self, gradient: torch.Tensor) -> torch.Tensor:
        norm = gradient.double().norm().cpu()
        if norm == 0:  # a mean of 0 would shorten all later gradients to 0
            return gradient
        if self._norm == 0:
            self._norm = norm
        limit = self._clip * self._norm
        is_long = self._clip > 0 and norm > limit
        self._norm = CLIP_MEMORY * self._norm + (1 - CLIP_MEMORY) * (limit if is_long else norm)
        return gradient * float(limit / norm) if is_long else gradient

    def state(self) -> dict[str, np.ndarray]:
        """Return everything that the next step depends on."""
        arrays = {"vector": self.vector.detach(), "average": self.average, "norm": self._norm}
        arrays.update(
            {f"adam_{name}": value for name, value in self._adam.state[self.vector].items()}
        )
        result = {name: np.array(value.cpu().numpy()) for name, value in arrays.items()}
        result["n_steps"] = np.array(self.n_steps)
        return result

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Continue from a state."""
        with torch.no_grad():
            self.vector.copy_(torch.from_numpy(state["vector"]))
            self.average.copy_(torch.from_numpy(state["average"]))
        self._norm = torch.from_numpy(np.array(state["norm"]))
        self.n_steps = int(state["n_steps"])
        for name, value in state.items():
            if name.startswith("adam_"):
                tensor = torch.from_numpy(np.array(value))
                tensor = tensor if name == "adam_step" else tensor.to(self.vector.device)
                self._adam.state[self.vector][name.removeprefix("adam_")] = tensor


def polish(
    vector: torch.Tensor, loss_and_gradient: Callable[[torch.Tensor], tuple[float, torch.Tensor]]
) -> torch.Tensor:
    """Return the vector after one round of L-BFGS with a strong Wolfe line search on the whole loss."""
    parameter = vector.clone().requires_grad_(True)
    optimizer = torch.optim.LBFGS(
        [parameter], max_iter=LBFGS_STEPS, history_size=LBFGS_STEPS, line_search_fn="strong_wolfe"
    )

    def closure() -> float:
        value, gradient = loss_and_gradient(parameter.detach())
        parameter.grad = gradient
        return value

    before = loss_and_gradient(vector)[0]
    optimizer.step(closure)
    result = parameter.detach()
    return result if loss_and_gradient(result)[0] < before else vector


class EvolutionStrategy:
    """Separable natural evolution strategy, the optimizer of GPUMD's trainer, without its ranking by type.

    Wierstra et al., J. Mach. Learn. Res. 15, 949 (2014); settings as in J. Chem. Phys. 157, 114801 (2022).
    """

    def __init__(
        self, vector: torch.Tensor, population: int, seed: int, sigma: float = 0.1
    ) -> None:
        n = population
        self.mean = vector.clone()
        self.sigma = torch.full_like(vector, sigma)
        self.generation = 0
        self._seed = seed
        rank = torch.arange(n, dtype=vector.dtype)
        utility = (math.log(n / 2 + 1) - torch.log(rank + 1)).clamp(min=0)
        self._utilities = (utility / utility.sum() - 1 / n).to(vector.device)
        size = len(vector)
        self._sigma_rate = (3 + math.log(size)) / (10 * math.sqrt(size))

    def step(self, loss: Callable[[torch.Tensor], float]) -> None:
        """Evaluate one population and move."""
        generator = torch.Generator().manual_seed(self._seed * 1_000_003 + self.generation)
        shape = (len(self._utilities), len(self.mean))
        noise = torch.randn(shape, generator=generator, dtype=self.mean.dtype).to(self.mean.device)
        losses = [loss(self.mean + self.sigma * z) for z in noise]
        ranked = noise[np.argsort(losses, kind="stable").tolist()]
        self.mean = self.mean + self.sigma * (self._utilities @ ranked)
        growth = self._sigma_rate * (self._utilities @ (ranked**2 - 1))
        self.sigma = (self.sigma * torch.exp(growth)).clamp(max=1.0)
        self.generation += 1

    def state(self) -> dict[str, np.ndarray]:
        """Return everything that the next generation depends on."""
        return {
            "vector": self.mean.cpu().numpy(),
            "average": self.mean.cpu().numpy(),
            "sigma": self.sigma.cpu().numpy(),
            "n_steps": np.array(self.generation),
        }

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Continue from a state."""
        self.mean = torch.from_numpy(state["vector"]).to(self.mean.device)
        self.sigma = torch.from_numpy(state["sigma"]).to(self.mean.device)
        self.generation = int(state["n_steps"])
