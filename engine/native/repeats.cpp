#include "repeats.h"

namespace tstrain {

Repeats::Work* Repeats::seen(const std::string& key) {
  auto found = by_key_.find(key);
  if (found != by_key_.end()) {
    newest_first_.splice(newest_first_.begin(), newest_first_, found->second.place);
    return &found->second.work;
  }
  if (by_key_.size() == kMost) {
    by_key_.erase(newest_first_.back());
    newest_first_.pop_back();
  }
  newest_first_.push_front(key);
  by_key_[key].place = newest_first_.begin();
  return nullptr;
}

}  // namespace tstrain
