"""Types of the compiled module; src/bindings is the source."""

from collections.abc import Sequence
from os import PathLike
from typing import Any, overload

import numpy as np

class ModelError(ValueError): ...

class Model:
    version: int
    kind: str
    charge_mode: int
    has_temperature: bool
    elements: list[str]
    zbl: str
    zbl_inner_cutoff: float
    zbl_outer_cutoff: float
    zbl_typewise_factor: float
    has_uniform_cutoffs: bool
    max_radial_neighbors: int
    max_angular_neighbors: int
    radial_cutoffs: list[float]
    angular_cutoffs: list[float]
    n_max_radial: int
    n_max_angular: int
    basis_size_radial: int
    basis_size_angular: int
    l_max: int
    invariants: Sequence[bool]
    n_neurons: int
    parameters: np.ndarray

    @overload
    def __init__(self) -> None: ...
    @overload
    def __init__(self, other: Model) -> None: ...
    @staticmethod
    def read(path: str | PathLike[str]) -> Model: ...
    @staticmethod
    def parse(text: str, name: str) -> Model: ...
    def write(self, path: str | PathLike[str]) -> None: ...
    def format(self) -> str: ...
    def check(self) -> None: ...
    @property
    def token(self) -> str: ...
    @property
    def n_descriptors(self) -> int: ...
    @property
    def n_parameters(self) -> int: ...
    def __getattr__(self, name: str) -> Any: ...

class Evaluator:
    def __init__(
        self,
        model: Model,
        precision: str = "double",
        simd: str = "auto",
        n_threads: int = 1,
        temperature: float = 0.0,
    ) -> None: ...
    def set_neighbors(
        self,
        n_atoms: int,
        types: np.ndarray,
        first: np.ndarray,
        second: np.ndarray,
        shifts: np.ndarray,
    ) -> None: ...
    def evaluate(
        self, positions: np.ndarray, cell: np.ndarray, **options: Any
    ) -> dict[str, Any]: ...
    def descriptors(self, positions: np.ndarray, cell: np.ndarray) -> np.ndarray: ...
    def tensor(self, positions: np.ndarray, cell: np.ndarray) -> np.ndarray: ...
    def __getattr__(self, name: str) -> Any: ...

def available_simd() -> list[str]: ...
def __getattr__(name: str) -> Any: ...
