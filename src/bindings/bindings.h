// The parts of the module qnep._core, one per file.
#pragma once

#include <nanobind/nanobind.h>

void bind_electrode(nanobind::module_ &module);
void bind_electrostatics(nanobind::module_ &module);
void bind_train(nanobind::module_ &module);
