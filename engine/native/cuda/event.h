// A moment on the card's stream of ops.
#pragma once
#include "card.h"

namespace tstrain::cuda {

struct Event {
  CUevent event = nullptr;
  Event() { check(driver().cuEventCreate(&event, 0), "making an event"); }
  ~Event() { driver().cuEventDestroy_v2(event); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  void record() const { check(driver().cuEventRecord(event, card().compute), "recording an event"); }
};

}  // namespace tstrain::cuda
