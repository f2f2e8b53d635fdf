// NVIDIA cards as a device: the first that the driver shows (CUDA_VISIBLE_DEVICES chooses), Ampere or newer.
#pragma once
#include "../device.h"

namespace tstrain {

extern const DeviceKind cuda_device;

}  // namespace tstrain
