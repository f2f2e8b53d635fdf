#include "signals.h"

#include <signal.h>

#include <atomic>
#include <cerrno>

#include "../checked.h"

namespace tstrain {

namespace {

struct Watched {
  std::atomic<int> come{0};
  // What was there before; a handler that the process has (Node's takes no siginfo).
  void (*before)(int) = nullptr;
};

Watched watched[NSIG];
std::atomic<bool> waiting{false};
static_assert(std::atomic<int>::is_always_lock_free && std::atomic<bool>::is_always_lock_free,
              "a handler may use no lock");

void count_and_pass_on(int number) {
  int error = errno;
  watched[number].come++;
  waiting = true;
  watched[number].before(number);
  errno = error;
}

struct sigaction action_of(int number) {
  struct sigaction action;
  if (number < 1 || number >= NSIG || sigaction(number, nullptr, &action) != 0)
    throw OpError("there is no signal " + std::to_string(number));
  return action;
}

}  // namespace

void watch_signal(int number) {
  auto action = action_of(number);
  if (action.sa_handler == count_and_pass_on) return;
  if ((action.sa_flags & SA_SIGINFO) || action.sa_handler == SIG_DFL || action.sa_handler == SIG_IGN)
    throw OpError("signal " + std::to_string(number) + " has no handler that takes the number alone");
  watched[number].before = action.sa_handler;
  action.sa_handler = count_and_pass_on;
  sigaction(number, &action, nullptr);
}

void unwatch_signal(int number) {
  auto action = action_of(number);
  watched[number].come = 0;
  if (action.sa_handler != count_and_pass_on) return;
  action.sa_handler = watched[number].before;
  sigaction(number, &action, nullptr);
}

bool signals_wait() { return waiting.load(std::memory_order_relaxed); }

std::vector<int> take_signals() {
  std::vector<int> taken;
  if (!waiting.exchange(false)) return taken;
  for (int number = 1; number < NSIG; number++)
    for (int come = watched[number].come.exchange(0); come > 0; come--) taken.push_back(number);
  return taken;
}

}  // namespace tstrain
