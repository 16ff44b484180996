"""LAMMPS with qnep: where the plugins are, LAMMPS in this process, and molecular dynamics by one command.

Importing this package imports nothing else: LAMMPS asks it for the plugin folder at every start.
"""
