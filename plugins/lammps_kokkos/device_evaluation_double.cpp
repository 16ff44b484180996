#include "device_evaluation_impl.h"

namespace qnep {

using Device = Kokkos::DefaultExecutionSpace;
using Host = Kokkos::DefaultHostExecutionSpace;

template std::unique_ptr<DeviceEvaluation<Device>> make_evaluation_of<Device, double>(const Model &, double);
#ifdef QNEP_KOKKOS_HAS_DEVICE
template std::unique_ptr<DeviceEvaluation<Host>> make_evaluation_of<Host, double>(const Model &, double);
#endif

}  // namespace qnep
