// Compiles files of kernels by NVRTC, as the addon does, for scripts/ptx.mjs:
//
//   ptx ARCHITECTURE OUT FILE.cu… [-- OPTION…]
//
// OUT/rope.ptx is the PTX of rope.cu with the names of its kernels in front, OUT/rope.log what the compiler says.
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "../engine/native/cuda/nvrtc.h"
#include "../engine/native/tensor.h"

using namespace tstrain::cuda;
namespace fs = std::filesystem;

static std::string read(const fs::path& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  if (!file) throw tstrain::OpError("cannot read " + path.string());
  return text.str();
}

static void write(const fs::path& path, const std::string& text) {
  std::ofstream file(path);
  file << text;
  if (!file.flush()) throw tstrain::OpError("cannot write " + path.string());
}

int main(int count, char** words) try {
  std::vector<fs::path> files;
  std::vector<std::string> options;
  bool dashes = false;
  for (int i = 3; i < count; i++) {
    std::string word = words[i];
    if (word == "--") dashes = true;
    else if (dashes) options.push_back(word);
    else files.push_back(word);
  }
  if (files.empty()) throw tstrain::OpError("ptx ARCHITECTURE OUT FILE.cu… [-- OPTION…]");
  for (auto& file : files) {
    std::string name = file.stem(), log;
    Source source{name, read(file), read(file.parent_path() / "on_card.h")};
    Compiled compiled = compile(source, words[1], options, &log);
    write(fs::path(words[2]) / (name + ".ptx"), with_names(compiled));
    write(fs::path(words[2]) / (name + ".log"), log);
  }
  return 0;
} catch (const std::exception& e) {
  std::fprintf(stderr, "%s\n", e.what());
  return 1;
}
