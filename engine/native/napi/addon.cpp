// The border between JavaScript and the op table: memory functions, and one binding per op made from its entry in
// ops.h. No C++ exception crosses it: guarded() turns each into a JavaScript Error.
#include <node_api.h>
#include <omp.h>

#include <cmath>
#include <cstring>
#include <iterator>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <tuple>
#include <unordered_map>
#include <utility>

#include "../block_signals.h"
#include "../cpu/cpu.h"
#include "../cpu/onednn.h"
#include "../cpu/threads.h"
#include "../cuda/cublaslt.h"
#include "../cuda/driver.h"
#include "../cuda/kernels.h"
#include "../cuda/nvrtc.h"
#include "../cuda/products.h"
#include "../ops.h"
#include "buffers.h"
#include "contracts.h"
#include "description.h"
#include "signals.h"

namespace tstrain {
namespace {

// ---- JavaScript values ---------------------------------------------------------------------------------------

void ok(napi_status status) {
  if (status != napi_ok) throw OpError("an argument has the wrong type");
}

f64 to_number(napi_env env, napi_value v) {
  f64 x;
  if (napi_get_value_double(env, v, &x) != napi_ok) throw OpError("a number was expected");
  return x;
}

i64 to_integer(napi_env env, napi_value v) {
  f64 x = to_number(env, v);
  if (!(std::fabs(x) <= 9007199254740992.0) || x != std::floor(x))
    throw OpError("an integer was expected, not " + std::to_string(x));
  return i64(x);
}

bool to_bool(napi_env env, napi_value v) {
  bool x;
  if (napi_get_value_bool(env, v, &x) != napi_ok) throw OpError("true or false was expected");
  return x;
}

napi_value number(napi_env env, f64 x) {
  napi_value v;
  napi_create_double(env, x, &v);
  return v;
}

napi_value string(napi_env env, const char* s) {
  napi_value v;
  napi_create_string_utf8(env, s, NAPI_AUTO_LENGTH, &v);
  return v;
}

napi_value undefined(napi_env env) {
  napi_value v;
  napi_get_undefined(env, &v);
  return v;
}

template <class F>
napi_value guarded(napi_env env, F&& body) {
  try {
    return body();
  } catch (const std::bad_alloc&) {
    napi_throw_error(env, OutOfMemory::code, "out of memory");
  } catch (const OutOfMemory& e) {
    napi_throw_error(env, OutOfMemory::code, e.what());
  } catch (const std::exception& e) {
    napi_throw_error(env, nullptr, e.what());
  } catch (...) {
    napi_throw_error(env, nullptr, "unknown native error");
  }
  return nullptr;
}

template <int N>
struct Arguments {
  napi_value v[N > 0 ? N : 1];
  Arguments(napi_env env, napi_callback_info info) {
    size_t count = N;
    ok(napi_get_cb_info(env, info, &count, v, nullptr, nullptr));
    if (count < size_t(N)) throw OpError("takes " + std::to_string(N) + " arguments, got " + std::to_string(count));
  }
};

// ---- one binding per op --------------------------------------------------------------------------------------

template <class T>
struct Decode;  // one for each kind of parameter

template <class T>
T decode_tensor(napi_env env, napi_value v, Device*& device) {
  T t;
  i64 handle = to_integer(env, v);
  if (handle == 0) return t;
  auto& b = buffer_of(handle);
  if (device && device != b.device)
    throw OpError(std::string("tensors of one op are on two devices: ") + device->name() + " and " + b.device->name());
  device = b.device;
  t.data = b.data;
  t.numel = b.numel;
  t.slack = b.slack;
  t.dtype = b.dtype;
  t.present = true;
  return t;
}

template <>
struct Decode<In> {
  static In get(napi_env env, napi_value v, Device*& d) { return decode_tensor<In>(env, v, d); }
};
template <>
struct Decode<Out> {
  static Out get(napi_env env, napi_value v, Device*& d) { return decode_tensor<Out>(env, v, d); }
};
template <>
struct Decode<i64> {
  static i64 get(napi_env env, napi_value v, Device*&) {
    i64 x = to_integer(env, v);
    if (x < 0) throw OpError("a size is negative: " + std::to_string(x));
    return x;
  }
};
template <>
struct Decode<f64> {
  static f64 get(napi_env env, napi_value v, Device*&) { return to_number(env, v); }
};
template <>
struct Decode<bool> {
  static bool get(napi_env env, napi_value v, Device*&) { return to_bool(env, v); }
};

template <>
struct Decode<Four> {
  static Four get(napi_env env, napi_value v, Device*& d) {
    bool array;
    uint32_t length = 0;
    ok(napi_is_array(env, v, &array));
    if (array) ok(napi_get_array_length(env, v, &length));
    if (length != 4) throw OpError("an array of four integers was expected");
    Four four;
    for (uint32_t i = 0; i < 4; i++) {
      napi_value x;
      ok(napi_get_element(env, v, i, &x));
      four[i] = Decode<i64>::get(env, x, d);
    }
    return four;
  }
};

// Every other kind is one of TSTRAIN_CHOICES.
template <class T>
struct Decode {
  static T get(napi_env env, napi_value v, Device*&) {
    f64 x;
    if (napi_get_value_double(env, v, &x) != napi_ok || !(x >= 0 && x < f64(Words<T>::count)))
      throw OpError(std::string("one of these was expected: ") + Words<T>::list);
    return T(i64(x));
  }
};

struct Workspace {
  Device& device;
  Device::Stretch stretch;
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;
  Workspace(Device& device, i64 bytes) : device(device) {
    if (bytes > 0) stretch = device.arena_allocate(bytes, true);
  }
  ~Workspace() {
    if (stretch.bytes > 0) device.arena_release(stretch);
  }
};

template <class Contract, class T>
T argument(napi_env env, napi_value v, size_t place, Device*& device) {
  try {
    return Decode<T>::get(env, v, device);
  } catch (const OpError& e) {
    throw OpError(parameters_of(Contract::signature, Contract::rules)[place].name + ": " + e.what());
  }
}

// What is called when a signal that is watched has come while an op ran; null: nothing.
napi_ref signal_listener = nullptr;

void tell_of_signals(napi_env env) {
  napi_value listener, result;
  if (signal_listener && napi_get_reference_value(env, signal_listener, &listener) == napi_ok)
    napi_call_function(env, undefined(env), listener, 0, nullptr, &result);
}

template <class Contract, auto Op, auto Need, class... A, size_t... I>
napi_value call_op(napi_env env, napi_callback_info info, void (*)(const Context&, A...), std::index_sequence<I...>) {
  return guarded(env, [&]() -> napi_value {
    Contract contract;
    try {
      Arguments<sizeof...(A)> js(env, info);
      Device* device = nullptr;
      std::tuple<A...> a{argument<Contract, A>(env, js.v[I], I, device)...};
      f64 flops = contract(std::get<I>(a)...);
      if (!device) throw OpError("no tensor was given");
      auto need = device->workspaces().*Need;
      Workspace workspace(*device, need ? need(std::get<I>(a)...) : 0);
      device->count_flops(flops);
      Context context{workspace.stretch.start, device->stream()};
      BlockSignals until_done;
      (device->ops().*Op)(context, std::get<I>(a)...);
    } catch (const OutOfMemory& e) {
      throw OutOfMemory(std::string(contract.op) + ": " + e.what());
    } catch (const OpError& e) {
      throw OpError(std::string(contract.op) + ": " + e.what());
    }
    if (signals_wait()) tell_of_signals(env);
    return undefined(env);
  });
}

template <class Contract, auto Op, auto Need, class... A>
napi_callback binding(void (*OpTable::*)(const Context&, A...)) {
  return [](napi_env env, napi_callback_info info) -> napi_value {
    return call_op<Contract, Op, Need>(env, info, static_cast<void (*)(const Context&, A...)>(nullptr),
                                       std::index_sequence_for<A...>{});
  };
}

// ---- memory functions ----------------------------------------------------------------------------------------

Device& to_device(napi_env env, napi_value v) {
  char name[64];
  size_t length;
  ok(napi_get_value_string_utf8(env, v, name, sizeof name, &length));
  return device_named({name, length});
}

DType to_dtype(napi_env env, napi_value v) {
  i64 t = to_integer(env, v);
  if (t < 0 || t >= kDTypes) throw OpError("no such dtype");
  return DType(t);
}

// alloc(device, dtype, numel, inArena, columns, products): see allocate().
napi_value js_alloc(napi_env env, napi_callback_info info) {
  return guarded(env, [&] {
    Arguments<6> a(env, info);
    return number(env, allocate(to_device(env, a.v[0]), to_dtype(env, a.v[1]), to_integer(env, a.v[2]),
                                to_bool(env, a.v[3]) ? Source::arena : Source::heap, to_integer(env, a.v[4]),
                                to_dtype(env, a.v[5])));
  });
}

// allocOnHost(device, dtype, numel): see Memory::allocate_on_host().
napi_value js_alloc_on_host(napi_env env, napi_callback_info info) {
  return guarded(env, [&] {
    Arguments<3> a(env, info);
    auto dtype = to_dtype(env, a.v[1]);
    return number(env, allocate(to_device(env, a.v[0]), dtype, to_integer(env, a.v[2]), Source::host, 0, dtype));
  });
}

napi_value js_view(napi_env env, napi_callback_info info) {
  return guarded(env, [&] {
    Arguments<3> a(env, info);
    return number(env, view(to_integer(env, a.v[0]), to_integer(env, a.v[1]), to_integer(env, a.v[2])));
  });
}

napi_value js_is_live(napi_env env, napi_callback_info info) {
  return guarded(env, [&] {
    Arguments<1> a(env, info);
    napi_value live;
    napi_get_boolean(env, is_live(to_integer(env, a.v[0])), &live);
    return live;
  });
}

napi_value js_release(napi_env env, napi_callback_info info) {
  return guarded(env, [&] {
    Arguments<1> a(env, info);
    release(to_integer(env, a.v[0]));
    return undefined(env);
  });
}

// The bytes of a TypedArray or Buffer.
std::pair<char*, size_t> bytes_of(napi_env env, napi_value v) {
  bool typed;
  ok(napi_is_typedarray(env, v, &typed));
  if (!typed) throw OpError("a typed array was expected");
  napi_typedarray_type type;
  size_t length;
  void* data;
  ok(napi_get_typedarray_info(env, v, &type, &length, &data, nullptr, nullptr));
  static const size_t width[] = {1, 1, 1, 2, 2, 4, 4, 4, 8, 8, 8};
  if (size_t(type) >= std::size(width)) throw OpError("arrays of this type are not taken");
  return {static_cast<char*>(data), length * width[type]};
}

// copy(handle, elementOffset, bytes, toDevice): raw bytes of the buffer's own type, as many as the array holds.
napi_value js_copy(napi_env env, napi_callback_info info) {
  return guarded(env, [&] {
    Arguments<4> a(env, info);
    auto& b = buffer_of(to_integer(env, a.v[0]));
    i64 start = i64(Checked(to_integer(env, a.v[1])) * size_of(b.dtype)), all = b.numel * size_of(b.dtype);
    auto [host, size] = bytes_of(env, a.v[2]);
    i64 bytes = i64(size);
    if (start < 0 || start > all - bytes)
      throw OpError("copy of bytes " + std::to_string(start) + "…" + std::to_string(start + bytes) +
                    " of a buffer of " + std::to_string(all));
    if (to_bool(env, a.v[3])) b.device->copy_in(b.data + start, host, bytes);
    else b.device->copy_out(host, b.data + start, bytes);
    return undefined(env);
  });
}

// Copies out that are under way, by number.
std::unordered_map<i64, std::unique_ptr<Memory::Fetch>> fetches;

// fetch(handle): begins to copy a buffer out, and returns the number of that.
napi_value js_fetch(napi_env env, napi_callback_info info) {
  return guarded(env, [&] {
    static i64 last = 0;
    Arguments<1> a(env, info);
    auto& b = buffer_of(to_integer(env, a.v[0]));
    fetches[last + 1] = b.device->fetch(b.data, b.numel * size_of(b.dtype));
    return number(env, f64(++last));
  });
}

// fetched(number, bytes): brings what has come; whether that is all, after which the number means nothing more.
napi_value js_fetched(napi_env env, napi_callback_info info) {
  return guarded(env, [&] {
    Arguments<2> a(env, info);
    auto found = fetches.find(to_integer(env, a.v[0]));
    if (found == fetches.end()) throw OpError("no such copy is under way");
    auto [host, size] = bytes_of(env, a.v[1]);
    if (i64(size) != found->second->bytes)
      throw OpError("a copy of " + std::to_string(found->second->bytes) + " bytes into " + std::to_string(size));
    bool all;
    try {
      all = found->second->advance(host);
    } catch (...) {
      fetches.erase(found);
      throw;
    }
    if (all) fetches.erase(found);
    napi_value v;
    napi_get_boolean(env, all, &v);
    return v;
  });
}

// The names of the devices that can compute here, the default first.
napi_value js_devices(napi_env env, napi_callback_info) {
  return guarded(env, [&] {
    napi_value names;
    napi_create_array(env, &names);
    for (auto* kind : device_kinds()) {
      if (!kind->missing().empty()) continue;
      std::uint32_t next;
      napi_get_array_length(env, names, &next);
      napi_set_element(env, names, next, string(env, kind->name));
    }
    return names;
  });
}

napi_value js_stats(napi_env env, napi_callback_info info) {
  return guarded(env, [&] {
    Arguments<1> a(env, info);
    Device& d = to_device(env, a.v[0]);
    napi_value o;
    napi_create_object(env, &o);
    auto set = [&](const char* key, f64 x) { napi_set_named_property(env, o, key, number(env, x)); };
    set("arenaReserved", f64(d.arena().reserved()));
    set("arenaInUse", f64(d.arena().in_use()));
    set("arenaHighWater", f64(d.arena().high_water()));
    set("arenaWorkspace", f64(d.arena().workspace_at_high_water()));
    set("heapBytes", f64(d.heap_bytes()));
    set("heapHighWater", f64(d.heap_high_water()));
    set("hostBytes", f64(d.host_bytes()));
    set("flops", d.flops());
    return o;
  });
}

napi_value js_reset_stats(napi_env env, napi_callback_info info) {
  return guarded(env, [&] {
    Arguments<1> a(env, info);
    to_device(env, a.v[0]).reset_counts();
    return undefined(env);
  });
}

// missing(): of each device that cannot compute here, why.
napi_value js_missing(napi_env env, napi_callback_info) {
  return guarded(env, [&] {
    napi_value o;
    napi_create_object(env, &o);
    for (auto* kind : device_kinds())
      if (auto why = kind->missing(); !why.empty())
        napi_set_named_property(env, o, kind->name, string(env, why.c_str()));
    return o;
  });
}

// ownMemory(device): {total, free}, 0 where it has the host's.
napi_value js_own_memory(napi_env env, napi_callback_info info) {
  return guarded(env, [&] {
    Arguments<1> a(env, info);
    auto room = to_device(env, a.v[0]).room();
    napi_value o;
    napi_create_object(env, &o);
    napi_set_named_property(env, o, "total", number(env, f64(room.total)));
    napi_set_named_property(env, o, "free", number(env, f64(room.free)));
    return o;
  });
}

// rowStep(device): see DeviceKind.
napi_value js_row_step(napi_env env, napi_callback_info info) {
  return guarded(env, [&] {
    Arguments<1> a(env, info);
    return number(env, f64(to_device(env, a.v[0]).row_step()));
  });
}

// vocabularyStep(device): see DeviceKind.
napi_value js_vocabulary_step(napi_env env, napi_callback_info info) {
  return guarded(env, [&] {
    Arguments<1> a(env, info);
    return number(env, f64(to_device(env, a.v[0]).vocabulary_step()));
  });
}

// gradientRows(device): see DeviceKind.
napi_value js_gradient_rows(napi_env env, napi_callback_info info) {
  return guarded(env, [&] {
    Arguments<1> a(env, info);
    return number(env, f64(to_device(env, a.v[0]).gradient_rows()));
  });
}

// describe(device, products): see DeviceKind.
napi_value js_describe(napi_env env, napi_callback_info info) {
  return guarded(env, [&] {
    Arguments<2> a(env, info);
    return string(env, to_device(env, a.v[0]).description(to_dtype(env, a.v[1])).c_str());
  });
}

std::string to_text(napi_env env, napi_value v) {
  size_t length;
  ok(napi_get_value_string_utf8(env, v, nullptr, 0, &length));
  std::string text(length, '\0');
  ok(napi_get_value_string_utf8(env, v, text.data(), length + 1, &length));
  return text;
}

// chosen(device), choose(device, chosen), account(device): see DeviceKind.
napi_value js_chosen(napi_env env, napi_callback_info info) {
  return guarded(env, [&] {
    Arguments<1> a(env, info);
    return string(env, to_device(env, a.v[0]).chosen().c_str());
  });
}

napi_value js_choose(napi_env env, napi_callback_info info) {
  return guarded(env, [&] {
    Arguments<2> a(env, info);
    napi_value taken;
    napi_get_boolean(env, to_device(env, a.v[0]).choose(to_text(env, a.v[1])), &taken);
    return taken;
  });
}

napi_value js_account(napi_env env, napi_callback_info info) {
  return guarded(env, [&] {
    Arguments<1> a(env, info);
    return string(env, to_device(env, a.v[0]).account().c_str());
  });
}

// expectArena(device, bytes): how far a plan says that its arena grows.
napi_value js_expect_arena(napi_env env, napi_callback_info info) {
  return guarded(env, [&] {
    Arguments<2> a(env, info);
    to_device(env, a.v[0]).expect_arena(to_integer(env, a.v[1]));
    return undefined(env);
  });
}

// repeat(device, key, handles): what to do with work on these tensors, `call` its ops, `record` them and then call
// endRecording(), or `nothing`. See Device.
napi_value js_repeat(napi_env env, napi_callback_info info) {
  return guarded(env, [&] {
    Arguments<3> a(env, info);
    Device& device = to_device(env, a.v[0]);
    std::string key = to_text(env, a.v[1]);
    uint32_t count;
    ok(napi_get_array_length(env, a.v[2], &count));
    for (uint32_t i = 0; i < count; i++) {
      napi_value handle;
      ok(napi_get_element(env, a.v[2], i, &handle));
      auto& b = buffer_of(to_integer(env, handle));
      i64 of_tensor[] = {i64(reinterpret_cast<std::uintptr_t>(b.data)), b.numel, i64(b.dtype)};
      key.append(reinterpret_cast<const char*>(of_tensor), sizeof of_tensor);
    }
    static const char* const words[] = {"call", "record", "nothing"};
    return string(env, words[int(device.repeat(std::move(key)))]);
  });
}

// endRecording(device, whole): see Device.
napi_value js_end_recording(napi_env env, napi_callback_info info) {
  return guarded(env, [&] {
    Arguments<2> a(env, info);
    to_device(env, a.v[0]).end_recording(to_bool(env, a.v[1]));
    return undefined(env);
  });
}

std::string version_text(int major, int minor) { return std::to_string(major) + "." + std::to_string(minor); }

// What there is of CUDA, whether or not it can be used.
napi_value js_cuda(napi_env env, napi_callback_info) {
  return guarded(env, [&] {
    auto object = [&](std::initializer_list<std::pair<const char*, std::string>> texts) {
      napi_value o;
      napi_create_object(env, &o);
      for (auto& [key, text] : texts) napi_set_named_property(env, o, key, string(env, text.c_str()));
      return o;
    };
    auto& d = cuda::driver();
    auto& n = cuda::nvrtc();
    bool usable = d.missing.empty();
    napi_value o = object({{"missing", d.missing},
                           {"driver", d.path},
                           {"driverVersion", d.version ? version_text(d.version / 1000, d.version % 1000 / 10) : ""},
                           {"card", d.card},
                           {"computeCapability", d.major ? version_text(d.major, d.minor) : ""},
                           {"kernels", usable ? cuda::kernels_come_from() : ""}});
    napi_set_named_property(env, o, "memory", number(env, f64(d.total_bytes)));
    napi_set_named_property(env, o, "nvrtc",
                            object({{"missing", n.missing},
                                    {"path", n.path},
                                    {"version", n.missing.empty() ? version_text(n.major, n.minor) : ""}}));
    // It takes a card to look for it.
    static const cuda::CublasLt unasked{};
    auto& blas = usable ? cuda::cublaslt() : unasked;
    auto& products = cuda::product_counts();
    napi_value b = object({{"missing", blas.missing},
                           {"path", blas.path},
                           {"version", blas.version},
                           {"firstDeclined", products.first_declined}});
    auto set = [&](const char* key, f64 x) { napi_set_named_property(env, b, key, number(env, x)); };
    set("products", f64(products.done));
    set("declined", f64(products.declined));
    set("tried", f64(products.tried));
    set("untried", f64(products.untried));
    set("seconds", products.seconds);
    napi_set_named_property(env, o, "cublaslt", b);
    return o;
  });
}

napi_value js_set_threads(napi_env env, napi_callback_info info) {
  return guarded(env, [&] {
    Arguments<1> a(env, info);
    i64 n = to_integer(env, a.v[0]);
    if (n < 1 || n > 1024) throw OpError("threads must be between 1 and 1024, not " + std::to_string(n));
    set_thread_count(int(n));
    return undefined(env);
  });
}

// watchSignals(numbers, listener): while it watches, the listener is called at the end of an op if one of these signals
// came meanwhile, or before. What it throws, the op throws. No numbers: it stops.
napi_value js_watch_signals(napi_env env, napi_callback_info info) {
  return guarded(env, [&] {
    static std::vector<int> numbers;
    Arguments<2> a(env, info);
    uint32_t count;
    ok(napi_get_array_length(env, a.v[0], &count));
    for (int number : numbers) unwatch_signal(number);
    numbers.clear();
    if (signal_listener) napi_delete_reference(env, signal_listener);
    signal_listener = nullptr;
    if (count > 0) ok(napi_create_reference(env, a.v[1], 1, &signal_listener));
    for (uint32_t i = 0; i < count; i++) {
      napi_value number;
      ok(napi_get_element(env, a.v[0], i, &number));
      numbers.push_back(int(to_integer(env, number)));
      watch_signal(numbers.back());
    }
    return undefined(env);
  });
}

// takeSignals(): the numbers of those that have come since, each as often as it did.
napi_value js_take_signals(napi_env env, napi_callback_info) {
  return guarded(env, [&] {
    napi_value taken;
    napi_create_array(env, &taken);
    uint32_t at = 0;
    for (int n : take_signals()) napi_set_element(env, taken, at++, number(env, n));
    return taken;
  });
}

napi_value js_info(napi_env env, napi_callback_info) {
  return guarded(env, [&] {
    napi_value o;
    napi_create_object(env, &o);
    napi_set_named_property(env, o, "instructionSet", string(env, cpu_kernels().instruction_set));
    napi_set_named_property(env, o, "bf16Gemm", string(env, name_of(bf16_gemm())));
    napi_set_named_property(env, o, "onednn", string(env, onednn_version()));
    napi_set_named_property(env, o, "threads", number(env, thread_count()));
    return o;
  });
}

// Handles, arena and thread count are one for the whole process, without locks: one thread at a time has them, until
// the last environment (a load of this addon) that it made has ended.
struct Owner {
  std::mutex mutex;
  std::thread::id thread;
  int environments = 0;
} owner;

void take_ownership(napi_env env) {
  std::lock_guard lock(owner.mutex);
  if (owner.environments > 0 && owner.thread != std::this_thread::get_id())
    throw OpError("the native addon is in use by another thread of this process; it works in one thread only");
  auto give_up = [](void*) {
    std::lock_guard lock(owner.mutex);
    owner.environments--;
  };
  // A hook is known by its argument too: Node aborts when one thread adds the same twice.
  if (napi_add_env_cleanup_hook(env, give_up, env) != napi_ok) throw OpError("cannot be told of the thread's end");
  owner.thread = std::this_thread::get_id();
  owner.environments++;
  // OpenMP counts by the thread that asks: this one must run no more than workspaces are made for.
  set_thread_count(thread_count());
}

// [kind, name, optional] of each parameter of an op.
napi_value js_parameters(napi_env env, const char* signature, const char* rules) {
  napi_value list;
  napi_create_array(env, &list);
  uint32_t at = 0;
  for (auto& [kind, name, optional] : parameters_of(signature, rules)) {
    napi_value parameter, flag;
    napi_create_array_with_length(env, 3, &parameter);
    napi_set_element(env, parameter, 0, string(env, kind.c_str()));
    napi_set_element(env, parameter, 1, string(env, name.c_str()));
    napi_get_boolean(env, optional, &flag);
    napi_set_element(env, parameter, 2, flag);
    napi_set_element(env, list, at++, parameter);
  }
  return list;
}

napi_value js_words(napi_env env, const char* words) {
  napi_value list;
  napi_create_array(env, &list);
  uint32_t at = 0;
  for (auto& word : items_of(words)) napi_set_element(env, list, at++, string(env, word.c_str()));
  return list;
}

// What JavaScript needs to know of types and ops, so that it does not stand there again.
void add_descriptions(napi_env env, napi_value exports) {
  auto object = [&](const char* name) {
    napi_value o;
    napi_create_object(env, &o);
    napi_set_named_property(env, exports, name, o);
    return o;
  };
  napi_value dtypes = object("dtypes"), choices = object("choices"), parameters = object("parameters");
  for (i64 code = 0; code < kDTypes; code++) {
    napi_value dtype;
    napi_create_object(env, &dtype);
    napi_set_named_property(env, dtype, "code", number(env, f64(code)));
    napi_set_named_property(env, dtype, "bytes", number(env, f64(size_of(DType(code)))));
    napi_set_named_property(env, dtypes, name_of(DType(code)), dtype);
  }
#define TSTRAIN_ADD_WORDS(type, ...) napi_set_named_property(env, choices, #type, js_words(env, Words<type>::list));
  TSTRAIN_CHOICES(TSTRAIN_ADD_WORDS)
#undef TSTRAIN_ADD_WORDS
#define TSTRAIN_ADD_PARAMETERS(name, ...)         \
  napi_set_named_property(env, parameters, #name, \
                          js_parameters(env, name##_contract::signature, name##_contract::rules));
  TSTRAIN_OPS(TSTRAIN_ADD_PARAMETERS)
#undef TSTRAIN_ADD_PARAMETERS
}

napi_value init(napi_env env, napi_value exports) {
  auto add = [&](napi_value object, const char* name, napi_callback callback) {
    napi_value f;
    napi_create_function(env, name, NAPI_AUTO_LENGTH, callback, nullptr, &f);
    napi_set_named_property(env, object, name, f);
  };
  add(exports, "alloc", js_alloc);
  add(exports, "allocOnHost", js_alloc_on_host);
  add(exports, "view", js_view);
  add(exports, "release", js_release);
  add(exports, "isLive", js_is_live);
  add(exports, "copy", js_copy);
  add(exports, "fetch", js_fetch);
  add(exports, "fetched", js_fetched);
  add(exports, "devices", js_devices);
  add(exports, "stats", js_stats);
  add(exports, "resetStats", js_reset_stats);
  add(exports, "setThreads", js_set_threads);
  add(exports, "info", js_info);
  add(exports, "watchSignals", js_watch_signals);
  add(exports, "takeSignals", js_take_signals);
  add(exports, "repeat", js_repeat);
  add(exports, "endRecording", js_end_recording);
  add(exports, "missing", js_missing);
  add(exports, "vocabularyStep", js_vocabulary_step);
  add(exports, "gradientRows", js_gradient_rows);
  add(exports, "describe", js_describe);
  add(exports, "chosen", js_chosen);
  add(exports, "choose", js_choose);
  add(exports, "account", js_account);
  add(exports, "ownMemory", js_own_memory);
  add(exports, "rowStep", js_row_step);
  add(exports, "expectArena", js_expect_arena);
  add(exports, "cuda", js_cuda);
  napi_value ops;
  napi_create_object(env, &ops);
#define TSTRAIN_BIND(name, parameters, ...) \
  add(ops, #name, binding<name##_contract, &OpTable::name, &WorkspaceTable::name>(&OpTable::name));
  TSTRAIN_OPS(TSTRAIN_BIND)
#undef TSTRAIN_BIND
  napi_set_named_property(env, exports, "ops", ops);
  add_descriptions(env, exports);
  return exports;
}

}  // namespace
}  // namespace tstrain

NAPI_MODULE_INIT() {
  return tstrain::guarded(env, [&] {
    tstrain::take_ownership(env);
    return tstrain::init(env, exports);
  });
}
