// Signals that JavaScript wants to hear of between two ops: Node tells it of one when its event loop goes round, which it
// does not within a micro-batch. Node's handler stays; ours counts the signal and calls it.
#pragma once
#include <vector>

namespace tstrain {

// From here on the signal waits to be taken when it has come. Node must have a handler of its own for it.
void watch_signal(int number);
// Gives the signal back to the handler that was there.
void unwatch_signal(int number);

bool signals_wait();
// Each as often as it has come since it was last taken.
std::vector<int> take_signals();

}  // namespace tstrain
