// What became of the kernels, for `tstrain doctor`.
#pragma once
#include <string>

namespace tstrain::cuda {

// In words for a person: how kernels are made for this card, and why so where it is not the best way. Needs a card.
std::string kernels_come_from();

}  // namespace tstrain::cuda
