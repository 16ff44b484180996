# Compiles the styles of qnep into LAMMPS itself, without a change to LAMMPS's files:
#   cmake -S lammps/cmake -B build -D CMAKE_PROJECT_lammps_INCLUDE=/path/to/qnep/plugins/lammps_kokkos/in_tree/qnep.cmake ...
# with the options that LAMMPS is built with otherwise. pair_style qnep, fix qnep/conp, fix qnep/efield and compute
# qnep/atom are then part of every build, pair_style qnep/kk of those with PKG_KOKKOS. CMake reads this file when LAMMPS's
# own file calls project(): style headers are announced at once, before LAMMPS writes its lists of styles; sources are
# added at the end, when the target and all options are there.
if(CMAKE_VERSION VERSION_LESS 3.19)
  message(FATAL_ERROR "qnep inside LAMMPS: wanted CMake 3.19 or newer, got ${CMAKE_VERSION}")
endif()

get_filename_component(QNEP_ROOT "${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)

# LAMMPS keeps its lists of style headers in these properties.
foreach(kind pair fix compute)
  string(TOUPPER ${kind} property)
  set_property(GLOBAL APPEND PROPERTY ${property} "${CMAKE_CURRENT_LIST_DIR}/qnep_${kind}_styles.h")
endforeach()
if(PKG_KOKKOS)
  set_property(GLOBAL APPEND PROPERTY PAIR "${CMAKE_CURRENT_LIST_DIR}/qnep_pair_styles_kokkos.h")
endif()

function(qnep_add_core)
  # As LAMMPS, which uses OpenMP unless told otherwise: without it nothing links the runtime.
  set(QNEP_OPENMP ON)
  if(DEFINED BUILD_OMP)
    set(QNEP_OPENMP ${BUILD_OMP})
  endif()
  set(CMAKE_CXX_EXTENSIONS OFF)
  add_subdirectory("${QNEP_ROOT}/src/core" qnep_core EXCLUDE_FROM_ALL)
endfunction()

function(qnep_add_to_lammps)
  if(NOT PKG_KSPACE)
    message(WARNING "qnep inside LAMMPS: models with charges want -D PKG_KSPACE=ON, or the keyword kspace direct")
  endif()
  set(host "${QNEP_ROOT}/plugins/lammps")
  include("${host}/host_sources.cmake")
  set(sources ${QNEP_HOST_SOURCES})
  set(folders "${QNEP_ROOT}/plugins/lammps_kokkos/in_tree" "${host}" "${QNEP_ROOT}/src/core")
  if(PKG_KOKKOS)
    set(device "${QNEP_ROOT}/plugins/lammps_kokkos")
    file(GLOB device_sources CONFIGURE_DEPENDS "${device}/*.cpp")
    list(REMOVE_ITEM device_sources "${device}/qnepkkplugin.cpp")
    list(APPEND sources ${device_sources})
    list(APPEND folders "${device}")
    if(Kokkos_ENABLE_CUDA OR Kokkos_ENABLE_HIP OR Kokkos_ENABLE_SYCL)
      set_property(SOURCE ${device_sources} APPEND PROPERTY COMPILE_DEFINITIONS QNEP_KOKKOS_HAS_DEVICE)
    endif()
    if(Kokkos_ENABLE_CUDA)
      # The formulas of the core call constexpr functions.
      set_property(SOURCE ${device_sources} APPEND PROPERTY COMPILE_OPTIONS --expt-relaxed-constexpr)
    endif()
  endif()
  # Objects and not a library, so that LAMMPS can be installed as any kind of library.
  target_sources(lammps PRIVATE ${sources} $<TARGET_OBJECTS:qnep_core>)
  # Our headers are seen by our sources and by those of LAMMPS that include its lists of styles, not by all others.
  file(GLOB lammps_sources "${LAMMPS_SOURCE_DIR}/*.cpp")
  foreach(source IN LISTS lammps_sources)
    file(STRINGS "${source}" lists LIMIT_COUNT 1 REGEX "#include \"style_(pair|fix|compute).h\"")
    if(lists)
      list(APPEND sources "${source}")
    endif()
  endforeach()
  set_property(SOURCE ${sources} APPEND PROPERTY INCLUDE_DIRECTORIES ${folders})
endfunction()

qnep_add_core()
cmake_language(DEFER CALL qnep_add_to_lammps)
