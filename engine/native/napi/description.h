// What an entry of the op table says of its parameters, read from the entry itself: JavaScript passes arguments by
// these names, and its types (engine/device/ops.d.ts) are made of them.
#pragma once
#include <algorithm>
#include <string>
#include <vector>

#include "../ops.h"

namespace tstrain {
namespace {

struct Parameter {
  std::string kind;  // as in C++: In, Out, i64, f64, bool, Four, or a type of TSTRAIN_CHOICES
  std::string name;
  bool optional;
};

// Of "a, b, c".
inline std::vector<std::string> items_of(const std::string& list) {
  std::vector<std::string> items;
  for (size_t from = 0; from < list.size();) {
    size_t comma = std::min(list.find(", ", from), list.size());
    items.push_back(list.substr(from, comma - from));
    from = comma + 2;
  }
  return items;
}

// signature: "(Out c, In a)", the parameters as the entry writes them; rules: its contract, where OPTIONAL(t, …) says
// that t may be left out.
inline std::vector<Parameter> parameters_of(const std::string& signature, const std::string& rules) {
  std::vector<Parameter> parameters;
  for (auto& item : items_of(signature.substr(1, signature.size() - 2))) {
    size_t space = item.find(' ');
    std::string name = item.substr(space + 1);
    bool optional = rules.find("OPTIONAL(" + name + ",") != std::string::npos;
    parameters.push_back({item.substr(0, space), name, optional});
  }
  return parameters;
}

}  // namespace
}  // namespace tstrain
