// Included before everything else where nvcc compiles Kokkos 4.5: three functions of the CUDA runtime in the form they had
// before CUDA 13, so that Kokkos stays as it is. Also seen by CMake's first probes, which compile C.
#pragma once

#if defined(__cplusplus) && defined(__CUDACC__)
#include <cuda_runtime_api.h>

#if CUDART_VERSION >= 13000
inline cudaMemLocation qnep_location_of(int device) {
    cudaMemLocation location{};
    location.type = device == cudaCpuDeviceId ? cudaMemLocationTypeHost : cudaMemLocationTypeDevice;
    location.id = device == cudaCpuDeviceId ? 0 : device;
    return location;
}

inline cudaError_t cudaMemAdvise(const void *start, size_t n_bytes, cudaMemoryAdvise advice, int device) {
    return cudaMemAdvise(start, n_bytes, advice, qnep_location_of(device));
}

inline cudaError_t cudaMemPrefetchAsync(const void *start, size_t n_bytes, int device, cudaStream_t stream) {
    return cudaMemPrefetchAsync(start, n_bytes, qnep_location_of(device), 0, stream);
}

inline cudaError_t cudaGraphAddDependencies(cudaGraph_t graph, const cudaGraphNode_t *from, const cudaGraphNode_t *to,
                                            size_t n_dependencies) {
    return cudaGraphAddDependencies(graph, from, to, nullptr, n_dependencies);
}
#endif
#endif
