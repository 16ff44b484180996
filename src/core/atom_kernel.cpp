#include "atom_kernel.h"

namespace qnep {

AtomKernel::~AtomKernel() = default;

}  // namespace qnep
