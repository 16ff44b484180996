# QNEP_HOST_SOURCES: pair_style qnep with its fixes and its compute, which every build of the styles contains.
set(QNEP_HOST_SOURCES
    pair_qnep.cpp
    qnep_settings.cpp
    distributed_model.cpp
    kspace_reciprocal_sum.cpp
    typed_neighbors.cpp
    force_deviation.cpp
    summary_file.cpp
    stage_timer.cpp
    find_pair_qnep.cpp
    compute_qnep_atom.cpp
    fix_qnep_efield.cpp
    fix_qnep_conp.cpp
    conp_atoms.cpp
    conp_settings.cpp)
list(TRANSFORM QNEP_HOST_SOURCES PREPEND "${CMAKE_CURRENT_LIST_DIR}/")
