#include "libraries.h"

#include <dlfcn.h>
#include <glob.h>
#include <link.h>

#include <algorithm>
#include <cstdlib>

namespace tstrain::cuda {

namespace {

std::vector<std::string> split(const std::string& list) {
  std::vector<std::string> parts;
  for (size_t from = 0; from <= list.size();) {
    size_t to = std::min(list.find(':', from), list.size());
    if (to > from) parts.push_back(list.substr(from, to - from));
    from = to + 1;
  }
  return parts;
}

// Files of that name under `root`, wherever toolkits and Python environments put them.
std::vector<std::string> files_under(const std::string& root, const std::string& name) {
  static const char* const places[] = {"",
                                       "lib64/",
                                       "lib/",
                                       "targets/x86_64-linux/lib/",
                                       "nvidia/*/lib/",
                                       "lib/python3*/site-packages/nvidia/*/lib/",
                                       "lib/python3*/dist-packages/nvidia/*/lib/"};
  std::vector<std::string> found;
  for (const char* place : places) {
    glob_t matches;
    if (glob((root + "/" + place + name).c_str(), GLOB_NOSORT, nullptr, &matches) == 0)
      for (size_t i = 0; i < matches.gl_pathc; i++) found.push_back(matches.gl_pathv[i]);
    globfree(&matches);
  }
  return found;
}

std::vector<std::string> roots_beside_the_loader() {
  std::vector<std::string> roots;
  for (const char* variable : {"CUDA_HOME", "CUDA_PATH", "VIRTUAL_ENV", "CONDA_PREFIX"})
    if (const char* value = std::getenv(variable)) roots.push_back(value);
  glob_t toolkits;
  if (glob("/usr/local/cuda*", 0, nullptr, &toolkits) == 0)
    for (size_t i = toolkits.gl_pathc; i-- > 0;) roots.push_back(toolkits.gl_pathv[i]);
  globfree(&toolkits);
  return roots;
}

// Whether `file` loads. One that is there and does not is worth telling.
bool opens(Library& library, const std::string& file, bool searched) {
  library.handle = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library.handle) {
    link_map* map = nullptr;
    bool named = dlinfo(library.handle, RTLD_DI_LINKMAP, &map) == 0 && map->l_name[0];
    library.path = named ? map->l_name : file;
    library.missing.clear();
    return true;
  }
  std::string why = dlerror();
  bool not_there = searched && why.find("cannot open shared object file: No such file") != std::string::npos &&
                   why.rfind(file + ":", 0) == 0;
  if (!not_there && library.missing.empty()) library.missing = "does not load: " + why;
  return false;
}

}  // namespace

void* Library::function(const char* name) {
  void* address = handle ? dlsym(handle, name) : nullptr;
  if (handle && !address && missing.empty()) missing = path + " has no " + name + ": it is too old";
  return address;
}

std::vector<std::string> sonames(const std::string& base, int driver) {
  std::vector<std::string> newer, names;
  for (int major : {13, 12, 11}) {
    // NVRTC of CUDA 11 carries the version of its interface.
    std::string name = base + ".so." + (base == "libnvrtc" && major == 11 ? "11.2" : std::to_string(major));
    (major > driver / 1000 ? newer : names).push_back(name);
  }
  names.insert(names.end(), newer.begin(), newer.end());
  return names;
}

Library open_library(const std::vector<std::string>& names) {
  Library library;
  const char* only = std::getenv("TSTRAIN_CUDA_PATH");
  auto roots = only ? split(only) : roots_beside_the_loader();
  for (auto& name : names) {
    if (!only && opens(library, name, true)) return library;
    for (auto& root : roots)
      for (auto& file : files_under(root, name))
        if (opens(library, file, false)) return library;
  }
  if (library.missing.empty()) {
    library.missing = "not found";
    if (only) library.missing += std::string(" in TSTRAIN_CUDA_PATH=") + only;
  }
  return library;
}

Library open_driver() {
  Library library;
  // Where the loader looks; and where WSL and containers have it, which do not always tell the loader.
  for (const char* file : {"libcuda.so.1", "/usr/lib/wsl/lib/libcuda.so.1", "/usr/local/nvidia/lib64/libcuda.so.1"})
    if (opens(library, file, true)) return library;
  if (library.missing.empty()) library.missing = "not found";
  return library;
}

}  // namespace tstrain::cuda
