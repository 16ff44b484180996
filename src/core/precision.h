// How many digits the arithmetic carries.
#pragma once

namespace qnep {

enum class Precision { double_precision, single_precision };

}  // namespace qnep
