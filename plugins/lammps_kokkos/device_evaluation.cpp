#include "device_evaluation.h"

namespace qnep {

// In device_evaluation_double.cpp and device_evaluation_single.cpp.
template <class Device, typename Real>
std::unique_ptr<DeviceEvaluation<Device>> make_evaluation_of(const Model &model, double temperature);

template <class Device>
std::unique_ptr<DeviceEvaluation<Device>> make_device_evaluation(const Model &model, Precision precision,
                                                                 double temperature) {
    return precision == Precision::double_precision ? make_evaluation_of<Device, double>(model, temperature)
                                                    : make_evaluation_of<Device, float>(model, temperature);
}

template std::unique_ptr<DeviceEvaluation<Kokkos::DefaultExecutionSpace>>
make_device_evaluation<Kokkos::DefaultExecutionSpace>(const Model &, Precision, double);
#ifdef QNEP_KOKKOS_HAS_DEVICE
template std::unique_ptr<DeviceEvaluation<Kokkos::DefaultHostExecutionSpace>>
make_device_evaluation<Kokkos::DefaultHostExecutionSpace>(const Model &, Precision, double);
#endif

}  // namespace qnep
