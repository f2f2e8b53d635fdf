#include "graph.h"

#include <cstdlib>
#include <cstring>

#include "card.h"

namespace tstrain::cuda {

namespace {

constexpr char kWithout[] = " (TSTRAIN_CUDA_GRAPHS=0 does without)";

void check_graph(CUresult result, const char* what) {
  if (result != CUDA_SUCCESS) check(result, (std::string(what) + kWithout).c_str());
}

class Graph : public Recording {
 public:
  explicit Graph(CUgraph graph) {
    CUresult result = driver().cuGraphInstantiateWithFlags(&ready_, graph, 0);
    driver().cuGraphDestroy(graph);
    check_graph(result, "making a CUDA graph ready");
  }
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;
  // The driver keeps what still runs until it is done.
  ~Graph() override { driver().cuGraphExecDestroy(ready_); }

  void replay() override {
    static const std::string name = "a CUDA graph";
    check_graph(driver().cuGraphLaunch(ready_, card().compute), "launching a CUDA graph");
    launched(name);
  }

 private:
  CUgraphExec ready_ = nullptr;
};

}  // namespace

bool records() {
  static const bool wanted = [] {
    const char* value = std::getenv("TSTRAIN_CUDA_GRAPHS");
    return !(value && !std::strcmp(value, "0")) && !launch_blocking();
  }();
  return wanted;
}

// Relaxed: what else the driver is asked meanwhile (more memory for the arena) is no part of the work.
void begin_recording() {
  check_graph(driver().cuStreamBeginCapture_v2(card().compute, CU_STREAM_CAPTURE_MODE_RELAXED),
              "beginning to record a CUDA graph");
}

std::unique_ptr<Recording> end_recording(bool wanted) {
  CUgraph graph = nullptr;
  CUresult result = driver().cuStreamEndCapture(card().compute, &graph);
  if (wanted) {
    check_graph(result, "recording a CUDA graph");
    return std::make_unique<Graph>(graph);
  }
  if (graph) driver().cuGraphDestroy(graph);
  return nullptr;
}

}  // namespace tstrain::cuda
