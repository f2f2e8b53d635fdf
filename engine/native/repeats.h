// Work that repeats: the same ops with the same numbers on the same memory, as when one token is decoded after another.
// What takes JavaScript hundreds of calls a device that records (a CUDA graph) then does at one.
//
// Nobody looks into what was recorded. Two pieces of work are the same when their keys are, in which the caller has put
// all that decides what is done and where the operands lie, and when the device holds the same memory: what the work
// itself allocates lies where it lay then, for the arena goes by the order of calls, and is free when it begins.
#pragma once
#include <list>
#include <memory>
#include <string>
#include <unordered_map>

#include "checked.h"

namespace tstrain {

// Work that a device has recorded.
struct Recording {
  virtual ~Recording() = default;
  // Does it, behind all that the device was asked to do before.
  virtual void replay() = 0;
};

// The keys that came last, with what was recorded for them.
class Repeats {
 public:
  struct Work {
    std::unique_ptr<Recording> recording;
    f64 flops = 0;
  };

  // What is known of a key; null at the first time it comes, which is remembered.
  Work* seen(const std::string& key);
  // Memory has moved: nothing recorded is of use.
  void forget() { by_key_.clear(), newest_first_.clear(); }

 private:
  // Shapes of real rows hardly repeat: keys that do come again soon.
  static constexpr size_t kMost = 32;

  struct Known {
    Work work;
    std::list<std::string>::iterator place;
  };
  std::unordered_map<std::string, Known> by_key_;
  std::list<std::string> newest_first_;
};

}  // namespace tstrain
