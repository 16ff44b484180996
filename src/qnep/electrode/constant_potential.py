"""ASE calculator of a cell with electrodes at constant potential or charge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.data import covalent_radii

from qnep.calculator import mechanical_results
from qnep.electrode.membership import Membership, Weights
from qnep.electrode.parameters import ELEMENT_PARAMETERS, Electrode, ElementParameters
from qnep.electrode.schemes import EquilibratedScheme, InducedScheme, SolverSettings
from qnep.electrode.slab import unwrap
from qnep.neighbors import VerletList

ROUNDING = 1e-9  # e
BOND_FACTOR = 1.25  # of the sum of covalent radii: atoms of two electrodes nearer than this are one piece of metal


class ConstantPotential(Calculator):
    """Adds electrodes to a potential.

    Parameters
    ----------
    calculator : of the potential. For the scheme ``"induced"`` a `qnep.QNEP` with charges; for ``"equilibrated"`` any
        calculator whose potential was trained on the energy without that of the equilibrated charges.
    electrodes : each with its potential or its charge.
    membership : which atoms belong to which electrode, in the order of ``electrodes``: `FixedMembership` or
        `CoordinationMembership`.
    scheme : ``"induced"`` or ``"equilibrated"``.
    parameters : of elements; they replace or extend `ELEMENT_PARAMETERS`.
    slab_axis : cell vector that leads through the vacuum between the backs of the electrodes, or None for a cell that
        is periodic in all directions (possible with one electrode only).
    total_charge : e, of the cell; only 0 with a slab axis.
    kspace, accuracy : as for `qnep.QNEP`.
    tolerance : e, bound of the root mean square error of the charges.
    max_iterations : of the conjugate gradients; if they do not suffice, `qnep._core.ConvergenceError` is raised.
    n_threads : of the sums.

    Notes
    -----
    Results: energy and free_energy (eV; the grand potential, that is, less potential times charge of the electrodes
    whose potential is given), forces (eV/Å, its exact gradient), stress (eV/Å³, if the calculator has it; along a slab
    axis it has no meaning), charges (n_atoms,) (e), electrode_charges and electrode_potentials (n_electrodes,) (e, V),
    n_iterations.

    Raises
    ------
    ValueError : no atoms in an electrode, electrodes that touch, a charged cell with a slab axis, several electrodes
        without slab axis, too little vacuum, an element without parameters.
    """

    name = "qnep-constant-potential"
    implemented_properties = [  # noqa: RUF012 (ASE's own form)
        "energy",
        "free_energy",
        "forces",
        "stress",
        "charges",
        "electrode_charges",
        "electrode_potentials",
        "n_iterations",
    ]
    ignored_changes = {"initial_charges", "initial_magmoms"}  # noqa: RUF012 (ASE's own form)

    def __init__(
        self,
        calculator: Calculator,
        electrodes: Sequence[Electrode],
        membership: Membership,
        scheme: str = "induced",
        parameters: Mapping[str, ElementParameters] | None = None,
        slab_axis: int | None = 2,
        total_charge: float = 0.0,
        kspace: str = "auto",
        accuracy: float = 1e-5,
        tolerance: float = 1e-7,
        max_iterations: int = 200,
        n_threads: int = 1,
    ):
        super().__init__()
        schemes: dict[str, Any] = {"induced": InducedScheme, "equilibrated": EquilibratedScheme}
        if scheme not in schemes:
            raise ValueError(f"scheme must be one of {', '.join(schemes)}, got '{scheme}'")
        if slab_axis not in (None, 0, 1, 2):
            raise ValueError(f"slab_axis must be 0, 1, 2 or None, got {slab_axis}")
        if slab_axis is not None and total_charge != 0.0:
            raise ValueError(
                f"a cell with a slab axis must be neutral, its dipole has no meaning otherwise; got {total_charge} e"
            )
        settings = SolverSettings(
            slab_axis, total_charge, kspace, accuracy, tolerance, max_iterations, n_threads
        )
        self.electrodes = list(electrodes)
        self._slab_axis = slab_axis
        self._check_electrodes()
        self._check_charges()
        self._membership = membership
        self._n_threads = n_threads
        self._contacts: VerletList | None = None
        self._scheme = schemes[scheme](
            calculator, {**ELEMENT_PARAMETERS, **(parameters or {})}, settings
        )

    def _check_electrodes(self) -> None:
        names = [electrode.name for electrode in self.electrodes]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"electrodes need different names and at least one, got {names}")
        if len(names) > 1 and self._slab_axis is None:
            raise ValueError(
                "several electrodes in a cell that is periodic along its normal meet through the boundary: give "
                "slab_axis and put vacuum behind them"
            )

    def _check_charges(self) -> None:
        """At every evaluation: a ramp sets the charge of one electrode after the other."""
        charges = [
            electrode.charge for electrode in self.electrodes if electrode.charge is not None
        ]
        is_held = self._slab_axis is not None and len(charges) == len(self.electrodes)
        if is_held and abs(sum(charges)) > ROUNDING:
            raise ValueError(f"charges of all electrodes must sum to zero, got {charges}")

    def set_potential(self, name: str, potential_V: float) -> None:
        """Change the potential of an electrode, for ramps and cycling."""
        self._replace(Electrode(name, potential_V=potential_V))

    def set_charge(self, name: str, charge: float) -> None:
        """Hold the charge (e) of an electrode from now on."""
        self._replace(Electrode(name, charge=charge))

    def _replace(self, changed: Electrode) -> None:
        known = [electrode.name for electrode in self.electrodes]
        if changed.name not in known:
            raise ValueError(f"there is no electrode {changed.name}, only {', '.join(known)}")
        self.electrodes[known.index(changed.name)] = changed
        self.reset()

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Evaluate the atoms; ASE calls this when a result is missing."""
        super().calculate(atoms, properties, system_changes)
        if self.atoms is None:
            raise ValueError("there are no atoms to evaluate")
        atoms = self.atoms
        self._check_charges()
        if not atoms.pbc.all():
            raise ValueError(
                f"electrodes need pbc in all directions (vacuum along the slab axis), got {atoms.pbc.tolist()}"
            )
        positions, fractions = atoms.positions, np.zeros(len(atoms))
        if self._slab_axis is not None:
            planes = getattr(self._membership, "planes", ())
            positions, fractions = unwrap(positions, atoms.cell.array, self._slab_axis, planes)
        weights = self._membership.weights(atoms, fractions)
        self._check_weights(atoms, weights)
        outcome = self._scheme.evaluate(atoms, positions, weights, self.electrodes)
        volume = atoms.get_volume()
        self.results = {
            **mechanical_results(outcome.energy, outcome.forces, outcome.virial, volume),
            "charges": outcome.charges,
            "electrode_charges": outcome.electrode_charges,
            "electrode_potentials": outcome.electrode_potentials,
            "n_iterations": outcome.n_iterations,
        }

    def _check_weights(self, atoms: Atoms, weights: Weights) -> None:
        if len(weights.values) != len(self.electrodes):
            raise ValueError(
                f"the membership divides atoms among {len(weights.values)} electrodes, given are {len(self.electrodes)}"
            )
        members = [np.flatnonzero(row > 0.5) for row in weights.values]
        for electrode, indices in zip(self.electrodes, members):
            if len(indices) == 0:
                raise ValueError(
                    f"no atom belongs to electrode {electrode.name}: look at the membership's elements, distances, "
                    "counts and planes, or at its groups"
                )
        self._check_gaps(atoms, members)

    def _check_gaps(self, atoms: Atoms, members: list[np.ndarray]) -> None:
        """Electrodes lie one after the other or at least apart: no bond leads from one to another."""
        if len(members) < 2:
            return
        electrode_of = np.full(len(atoms), -1)
        for k, indices in enumerate(members):
            electrode_of[indices] = k
        radii = covalent_radii[atoms.numbers]
        reach = 2 * BOND_FACTOR * radii.max()
        if self._contacts is None or self._contacts.cutoff != reach:
            self._contacts = VerletList(reach, 0.6, self._n_threads)
        contacts = self._contacts
        contacts.update(atoms.positions, atoms.cell.array, atoms.pbc)
        own, other = electrode_of[contacts.first], electrode_of[contacts.second]
        is_between = (own >= 0) & (other > own)
        first, second = contacts.first[is_between], contacts.second[is_between]
        vectors = atoms.positions[second] - atoms.positions[first]
        vectors = vectors + contacts.shifts[is_between] @ atoms.cell.array
        distances = np.linalg.norm(vectors, axis=1)
        touching = np.flatnonzero(distances < BOND_FACTOR * (radii[first] + radii[second]))
        if len(touching):
            pair = touching[np.argmin(distances[touching])]
            names = [self.electrodes[electrode_of[atom[pair]]].name for atom in (first, second)]
            raise ValueError(
                f"electrodes {names[0]} and {names[1]} touch: {distances[pair]:.2f} Å between their atoms"
            )
