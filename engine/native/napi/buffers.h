// Handles: what JavaScript holds in place of memory.
#pragma once
#include "../device.h"

namespace tstrain {

enum class Source { heap, arena, host, view };

struct Buffer {
  Device* device = nullptr;
  char* data = nullptr;
  i64 numel = 0;
  i64 slack = 0;  // see TensorOf
  DType dtype = DType::f32;
  Source source = Source::heap;
  Device::Stretch stretch;  // in the arena, for arena buffers
  std::uint32_t root = 0;   // index of the buffer that owns the memory
  int references = 0;       // of a root: itself and its views; memory goes when it reaches 0
  std::uint32_t generation = 0;
  bool live = false;
};

// A handle is generation · 2^24 + index, so a released one is recognised instead of reading somebody else's memory: all
// but is_live() throw OpError for it.
// A matrix of rows of so many columns (0: no matrix) has the slack behind it that the device wants for products of
// that type.
f64 allocate(Device& device, DType dtype, i64 numel, Source source, i64 columns, DType products);
// offset and numel count elements of the buffer's own type. A view up to the end has the slack behind it too.
f64 view(i64 handle, i64 offset, i64 numel);
void release(i64 handle);
bool is_live(i64 handle);
const Buffer& buffer_of(i64 handle);

}  // namespace tstrain
