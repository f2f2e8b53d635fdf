#include "buffers.h"

#include <string>
#include <vector>

namespace tstrain {

namespace {

constexpr i64 kIndexBits = 24;
std::vector<Buffer> buffers(1);
std::vector<std::uint32_t> vacant;

std::uint32_t new_index() {
  if (!vacant.empty()) {
    auto index = vacant.back();
    vacant.pop_back();
    return index;
  }
  if (i64(buffers.size()) >= (i64(1) << kIndexBits)) throw OpError("too many buffers are alive (2^24)");
  buffers.emplace_back();
  return std::uint32_t(buffers.size() - 1);
}

f64 handle_of(std::uint32_t index) { return f64((i64(buffers[index].generation) << kIndexBits) + index); }

std::uint32_t index_part(i64 handle) { return std::uint32_t(handle & ((i64(1) << kIndexBits) - 1)); }

std::uint32_t index_of(i64 handle) {
  if (!is_live(handle)) throw OpError("the buffer was released, or never existed");
  return index_part(handle);
}

}  // namespace

bool is_live(i64 handle) {
  auto index = index_part(handle);
  return handle > 0 && index < buffers.size() && buffers[index].live &&
         buffers[index].generation == std::uint32_t(handle >> kIndexBits);
}

const Buffer& buffer_of(i64 handle) { return buffers[index_of(handle)]; }

f64 allocate(Device& device, DType dtype, i64 numel, Source source, i64 columns, DType products) {
  if (numel < 0) throw OpError("cannot allocate " + std::to_string(numel) + " elements");
  if (columns < 0 || (columns > 0 && numel % columns))
    throw OpError(std::to_string(numel) + " elements are no matrix of " + std::to_string(columns) + " columns");
  i64 slack = columns > 0 ? device.slack(products, numel / columns, columns) : 0;
  i64 bytes = i64((Checked(numel) + slack) * size_of(dtype));
  auto index = new_index();
  auto& b = buffers[index];
  b.device = &device;
  b.numel = numel;
  b.slack = slack;
  b.dtype = dtype;
  b.root = index;
  b.references = 1;
  try {
    if (source == Source::arena) {
      b.stretch = device.arena_allocate(bytes);
      b.data = b.stretch.start;
    } else b.data = source == Source::host ? device.host_allocate(bytes) : device.heap_allocate(bytes);
    b.source = source;
  } catch (...) {
    vacant.push_back(index);
    throw;
  }
  b.live = true;
  return handle_of(index);
}

void release(i64 handle) {
  auto index = index_of(handle);
  auto retire = [](std::uint32_t i) {
    buffers[i].live = false;
    buffers[i].generation = (buffers[i].generation + 1) & ((1u << 28) - 1);
  };
  auto root = buffers[index].root;
  retire(index);
  if (index != root) vacant.push_back(index);
  auto& r = buffers[root];
  if (--r.references > 0) return;
  i64 bytes = (r.numel + r.slack) * size_of(r.dtype);
  if (r.source == Source::arena) r.device->arena_release(r.stretch);
  else if (r.source == Source::host) r.device->host_release(r.data, bytes);
  else r.device->heap_release(r.data, bytes);
  vacant.push_back(root);
}

f64 view(i64 handle, i64 offset, i64 numel) {
  auto of = index_of(handle);
  if (offset < 0 || numel < 0 || offset > buffers[of].numel - numel)
    throw OpError("view of elements " + std::to_string(offset) + "…" + std::to_string(offset + numel) +
                  " of a buffer of " + std::to_string(buffers[of].numel));
  auto index = new_index();
  auto& b = buffers[index];
  auto& parent = buffers[of];
  b.device = parent.device;
  b.dtype = parent.dtype;
  b.numel = numel;
  b.slack = offset + numel == parent.numel ? parent.slack : 0;
  b.data = parent.data ? parent.data + offset * size_of(parent.dtype) : nullptr;
  b.source = Source::view;
  b.root = parent.root;
  b.live = true;
  buffers[parent.root].references++;
  return handle_of(index);
}

}  // namespace tstrain
