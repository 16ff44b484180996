"""A map of a data set: principal components of descriptors, train against test, and what lies outside."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from scipy.spatial import cKDTree
from scipy.stats import gaussian_kde

from qnep._optional import require
from qnep.analysis.findings import Chart, Findings, Series, Table

OUTLIER_QUANTILE = 0.99


@dataclass(frozen=True)
class DescriptorMap:
    """Principal components of structures.

    Parameters
    ----------
    train, test : (n_train, n_components), (n_test, n_components) coordinates, in units of the standard
        deviation of the training set along each component.
    explained : (n_components,) part of the training set's variance.
    density : (n_train + n_test,) of training structures at each point, by a Gaussian kernel in the first two
        components (Scott's width).
    distances : (n_test,) to the nearest training structure.
    limit : distance beyond which a test structure is an outlier: the 99 % quantile of the
        distances between training structures and their nearest fellows.
    """

    train: np.ndarray
    test: np.ndarray
    explained: np.ndarray
    density: np.ndarray
    distances: np.ndarray
    limit: float

    @property
    def outliers(self) -> np.ndarray:
        """Indices of outlying test structures, the farthest first."""
        order = np.argsort(-self.distances)
        return order[self.distances[order] > self.limit]


def structure_descriptors(
    frames: Sequence[Atoms], descriptors: Callable[[Atoms], np.ndarray]
) -> np.ndarray:
    """Return the mean descriptor of each structure's atoms, [n_frames, dim].

    Parameters
    ----------
    descriptors : of atoms, [n_atoms, dim], as ``QNEP.get_descriptors``.
    """
    return np.array([descriptors(atoms).mean(axis=0) for atoms in frames])


def map_descriptors(
    train: np.ndarray, test: np.ndarray | None = None, n_components: int = 5
) -> DescriptorMap:
    """Project descriptors on the principal components of the training set.

    Descriptors are standardised first; those that do not vary are left out.

    Parameters
    ----------
    train, test : (n, dim) arrays; no test set by default.

    Raises
    ------
    ValueError : fewer than 3 training structures, other lengths of test descriptors, numbers that are not finite.
    """
    test = np.empty((0, train.shape[1])) if test is None else test
    if len(train) < 3:
        raise ValueError(f"a map needs at least 3 training structures, got {len(train)}")
    if test.shape[1] != train.shape[1]:
        raise ValueError(
            f"test descriptors have length {test.shape[1]}, training ones {train.shape[1]}"
        )
    if not (np.isfinite(train).all() and np.isfinite(test).all()):
        raise ValueError("descriptors must be finite")
    mean, spread = train.mean(axis=0), train.std(axis=0)
    varies = spread > 1e-12 * np.maximum(1.0, np.abs(mean))
    if varies.sum() < 2:
        raise ValueError("the training structures do not differ")
    scaled = [(x[:, varies] - mean[varies]) / spread[varies] for x in (train, test)]
    _, sizes, axes = np.linalg.svd(scaled[0], full_matrices=False)
    n = min(n_components, int((sizes > 1e-9 * sizes[0]).sum()))
    explained = sizes**2 / (sizes**2).sum()
    unit = sizes[:n] / np.sqrt(len(train))
    on_map, test_on_map = (x @ axes[:n].T / unit for x in scaled)
    tree = cKDTree(on_map)
    fellows = tree.query(on_map, k=2)[0][:, 1]
    distances = tree.query(test_on_map)[0] if len(test) else np.empty(0)
    limit = float(np.quantile(fellows, OUTLIER_QUANTILE))
    density = _density(on_map, test_on_map)
    return DescriptorMap(on_map, test_on_map, explained[:n], density, distances, limit)


def _density(train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Return the density of training points at all points."""
    everything = np.vstack((train, test))[:, :2].T
    if train.shape[1] < 2:
        return np.full(everything.shape[1], np.nan)
    return gaussian_kde(train[:, :2].T)(everything)


def summarize_map(found: DescriptorMap, names: Sequence[str]) -> Findings:
    """Return the chart and the table of outliers.

    Parameters
    ----------
    names : of the test structures.
    """
    percent = [f"component {k + 1} ({100 * e:.1f} %)" for k, e in enumerate(found.explained)]
    series = [
        Series(name, points[:, 0].tolist(), points[:, 1].tolist())
        for name, points in (("train", found.train), ("test", found.test))
        if len(points)
    ]
    n = len(found.train)
    density = [
        Series(name, points[:, 0].tolist(), values.tolist())
        for name, points, values in (
            ("train", found.train, found.density[:n]), ("test", found.test, found.density[n:])
        )
        if len(points)
    ]  # fmt: skip
    rows = [[int(k), names[k], float(found.distances[k])] for k in found.outliers]
    return Findings(
        charts=[
            Chart("descriptor_map", "Data set", "Map of descriptors", "", percent[0], percent[1], series, "scatter"),
            Chart("descriptor_density", "Data set", "Density of the training set", "", percent[0], "density",
                  density, "scatter"),
        ],
        tables=[
            Table("outliers", "Data set", "Test structures outside the training set",
                  f"Farther than {found.limit:.3g} from the nearest training structure.",
                  ["structure", "name", "distance"], rows)
        ],
    )  # fmt: skip


def write_chemiscope(
    path: Path, frames: Sequence[Atoms], found: DescriptorMap, n_train: int
) -> None:
    """Write a file for chemiscope.org, with all structures and their place on the map."""
    chemiscope = require("chemiscope", extra="chemiscope")
    points = np.vstack((found.train, found.test))
    properties: dict[str, Any] = {
        f"component {k + 1}": {"target": "structure", "values": points[:, k]}
        for k in range(points.shape[1])
    }
    kinds = ["train"] * n_train + ["test"] * (len(frames) - n_train)
    properties["set"] = {"target": "structure", "values": kinds}
    properties["density"] = {"target": "structure", "values": found.density}
    data = chemiscope.create_input(
        structures=list(frames), properties=properties, metadata={"name": path.stem}
    )
    path.write_text(json.dumps(data))
