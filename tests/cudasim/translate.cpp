#include "translate.h"

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <set>

namespace cudasim {

namespace {

using std::string;
using std::to_string;
using std::vector;

// --- text to tokens

struct Token {
  string text;
  int line;
  size_t start, end;
};

[[noreturn]] void bad(int line, const string& what) { throw BadPtx("PTX line " + to_string(line) + ": " + what); }

bool is_word(char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '$' || c == '%'; }

vector<Token> tokens_of(const string& s) {
  vector<Token> tokens;
  int line = 1;
  size_t i = 0;
  while (i < s.size()) {
    char c = s[i];
    if (c == '\n') line++;
    if (std::isspace(static_cast<unsigned char>(c))) {
      i++;
    } else if (s.compare(i, 2, "//") == 0) {
      while (i < s.size() && s[i] != '\n') i++;
    } else if (s.compare(i, 2, "/*") == 0) {
      size_t end = s.find("*/", i + 2);
      if (end == string::npos) bad(line, "a comment does not end");
      line += int(std::count(s.begin() + long(i), s.begin() + long(end), '\n'));
      i = end + 2;
    } else {
      size_t start = i;
      if (c == '"') {
        i = s.find('"', i + 1);
        if (i == string::npos) bad(line, "a string does not end");
        i++;
      } else if (is_word(c) || (c == '.' && i + 1 < s.size() && is_word(s[i + 1]))) {
        // Modifiers belong to their opcode; shared::cta is one.
        i++;
        while (i < s.size() && (is_word(s[i]) || (s[i] == '.' && i + 1 < s.size() && is_word(s[i + 1])) ||
                                (s[i] == ':' && i + 2 < s.size() && s[i + 1] == ':' && is_word(s[i + 2])))) {
          i += s[i] == ':' ? 2 : 1;
        }
      } else {
        i++;
      }
      tokens.push_back({s.substr(start, i - start), line, start, i});
    }
  }
  return tokens;
}

vector<string> split(const string& s, char by) {
  vector<string> parts(1);
  for (char c : s) {
    if (c == by) parts.emplace_back();
    else parts.back() += c;
  }
  return parts;
}

// --- types

struct Type {
  char kind = 0;  // s, u, b, f, p (predicate), h (bf16), H (f16); 0: none
  int bits = 0;
  bool floating() const { return kind == 'f'; }
  bool operator==(const Type& o) const { return kind == o.kind && bits == o.bits; }
};

bool parse_type(const string& word, Type& type) {
  static const std::map<string, Type> types = {
      {"s8", {'s', 8}},    {"s16", {'s', 16}}, {"s32", {'s', 32}},   {"s64", {'s', 64}},    {"u8", {'u', 8}},
      {"u16", {'u', 16}},  {"u32", {'u', 32}}, {"u64", {'u', 64}},   {"b8", {'b', 8}},      {"b16", {'b', 16}},
      {"b32", {'b', 32}},  {"b64", {'b', 64}}, {"f32", {'f', 32}},   {"f64", {'f', 64}},    {"pred", {'p', 1}},
      {"bf16", {'h', 16}}, {"f16", {'H', 16}}, {"b128", {'b', 128}}, {"bf16x2", {'h', 32}}, {"f16x2", {'H', 32}}};
  auto at = types.find(word);
  if (at == types.end()) return false;
  type = at->second;
  return true;
}

string c_type(Type t) {
  if (t.kind == 'p') return "bool";
  if (t.kind == 'f') return t.bits == 32 ? "float" : "double";
  if (t.bits == 128) return "u128";
  return (t.kind == 's' ? "i" : "u") + to_string(t.bits);
}

// --- the parts of a program

struct Operand {
  enum Kind { kRegister, kInteger, kFloat, kSymbol, kAddress, kVector, kSink, kList } kind = kSink;
  string name;           // a register (special ones too) or symbol; of an address its base
  string text;           // an integer or a float, as C++ has it
  long long offset = 0;  // of an address or symbol
  bool negated = false;  // !%p
  int float_bits = 0;
  vector<Operand> parts;  // of a vector, a list (call) or p|q
};

struct Instruction {
  string predicate;
  bool unless = false;
  string opcode;
  vector<string> rest;  // modifiers that nobody has asked for yet
  vector<Operand> operands;
  int scope = 0;
  Site site;
  string label;            // not an instruction then
  vector<string> targets;  // of .branchtargets
};

struct Variable {
  string name;
  string space;  // reg, local, shared, param, global, const
  Type type;
  uint64_t bytes = 0, align = 1;
  bool dynamic = false;  // extern .shared
  string code;           // its C++ name
  int scope = 0;
  unsigned offset = 0;  // of an entry's parameter
};

struct Function {
  string name;
  bool entry = false, defined = false;
  unsigned most_threads = 1024;
  vector<Variable> results, parameters;
  std::map<std::pair<int, string>, Variable> variables;  // by scope
  std::map<std::pair<int, string>, Type> ranges;         // .reg .b32 %r<5>: a prefix
  vector<int> parents;                                   // of scopes
  vector<Instruction> body;
};

string c_name(const string& name) {
  string s;
  for (char c : name) s += std::isalnum(static_cast<unsigned char>(c)) ? c : '_';
  return s;
}

// --- tokens to parts

class Parser {
 public:
  explicit Parser(const string& text) : text_(text), tokens_(tokens_of(text)) {}

  Program program;
  std::map<string, Function> functions;
  vector<string> order;
  std::map<string, Variable> shared, globals;

  void head() {
    while (at_ < tokens_.size() && (program.version == 0 || program.target == 0)) {
      if (is(".version")) {
        next();
        string v = next().text;
        // "8.0" may come as one token or as three.
        if (v.find('.') == string::npos && at_ < tokens_.size() && tokens_[at_].text[0] == '.') v += next().text;
        program.version = std::atoi(v.c_str()) * 10 + std::atoi(v.c_str() + v.find('.') + 1);
      } else if (is(".target")) {
        int line = next().line;
        string t = next().text;
        if (t.compare(0, 3, "sm_") != 0) bad(line, "target " + t);
        program.target = std::atoi(t.c_str() + 3);
        while (at_ < tokens_.size() && tokens_[at_].line == line) at_++;
      } else {
        bad(tokens_[at_].line, "no .version and .target, but " + tokens_[at_].text);
      }
    }
    if (program.version == 0 || program.target == 0) throw BadPtx("no .version and no .target");
  }

  void all() {
    head();
    while (at_ < tokens_.size()) item();
  }

 private:
  const Token& peek(size_t ahead = 0) const {
    if (at_ + ahead >= tokens_.size()) throw BadPtx("the text ends early");
    return tokens_[at_ + ahead];
  }
  bool is(const char* word) const { return at_ < tokens_.size() && tokens_[at_].text == word; }
  const Token& next() {
    const Token& token = peek();
    at_++;
    return token;
  }
  bool take(const char* word) {
    if (!is(word)) return false;
    at_++;
    return true;
  }
  void expect(const char* word) {
    if (!take(word)) bad(peek().line, string("expected ") + word + ", found " + peek().text);
  }
  // .loc and its like end with their line.
  void skip_line() {
    int line = peek().line;
    while (at_ < tokens_.size() && tokens_[at_].line == line) at_++;
  }
  void skip_braces() {
    expect("{");
    for (int depth = 1; depth > 0;) {
      const string& t = next().text;
      depth += (t == "{") - (t == "}");
    }
  }

  void item() {
    const Token& token = peek();
    const string& t = token.text;
    if (t == ".address_size" || t == ".file" || t == ".loc") return skip_line();
    if (t == ".section") {
      while (!is("{")) at_++;
      return skip_braces();
    }
    if (t == ";") {
      at_++;
      return;
    }
    bool is_extern = false;
    while (is(".visible") || is(".weak") || is(".extern") || is(".common")) is_extern |= next().text == ".extern";
    if (is(".entry") || is(".func")) return function();
    if (is(".global") || is(".const") || is(".shared")) {
      for (auto& v : declaration(is_extern)) {
        if (v.space == "shared") shared[v.name] = v;
        else globals[v.name] = v;
      }
      return;
    }
    if (is(".pragma") || is(".alias")) {
      while (!take(";")) at_++;
      return;
    }
    bad(peek().line, "cannot read " + peek().text);
  }

  // .space .align 4 .b8 name[16] = {…}, …; returns what it declares.
  vector<Variable> declaration(bool is_extern) {
    Variable v;
    v.space = next().text.substr(1);
    if (v.space == "shared::cta") v.space = "shared";
    qualifiers(v);
    vector<Variable> list;
    do {
      Variable one = v;
      one.name = next().text;
      array_and_value(one, is_extern);
      list.push_back(one);
    } while (take(","));
    expect(";");
    return list;
  }

  void qualifiers(Variable& v) {
    while (peek().text[0] == '.') {
      const Token& token = next();
      // .param .u64 .ptr .global .align 1
      for (auto& word : split(token.text.substr(1), '.')) {
        Type type;
        if (word == "align") {
          v.align = std::strtoull(next().text.c_str(), nullptr, 0);
        } else if (parse_type(word, type)) {
          v.type = type;
        } else if (word == "v2" || word == "v4") {
          v.bytes = word == "v2" ? 2 : 4;
        } else if (word != "ptr" && word != "global" && word != "shared" && word != "const" && word != "local" &&
                   word != "attribute") {
          bad(token.line, "a declaration with ." + word);
        }
      }
    }
    uint64_t lanes = v.bytes ? v.bytes : 1;
    v.bytes = lanes * uint64_t(v.type.kind == 'p' ? 1 : v.type.bits / 8);
    if (v.align < v.bytes && v.bytes <= 16) v.align = std::max<uint64_t>(v.align, v.bytes);
  }

  void array_and_value(Variable& v, bool is_extern) {
    uint64_t element = v.bytes;
    bool unsized = false;
    while (take("[")) {
      if (take("]")) {
        unsized = true;
        continue;
      }
      v.bytes *= std::strtoull(next().text.c_str(), nullptr, 0);
      expect("]");
    }
    v.dynamic = unsized && is_extern;
    if (unsized) v.bytes = 0;
    if (v.space != "global" && v.space != "const") return;
    GlobalVariable& g = program.globals[v.name];
    g.align = std::max<uint64_t>(v.align, 8);
    if (take("=")) {
      g.initialised = true;
      values(g, element);
    }
    if (unsized) v.bytes = g.data.size();
    g.data.resize(v.bytes);
  }

  void values(GlobalVariable& g, uint64_t element) {
    if (take("{")) {
      while (!take("}")) {
        values(g, element);
        take(",");
      }
      return;
    }
    uint64_t at = g.data.size();
    g.data.resize(at + element);
    bool negative = take("-");
    const Token& token = next();
    const string& t = token.text;
    uint64_t x = 0;
    if (t == "generic") {
      expect("(");
      g.addresses.push_back({at, next().text});
      expect(")");
      return;
    }
    if (t.compare(0, 2, "0f") == 0 || t.compare(0, 2, "0F") == 0 || t.compare(0, 2, "0d") == 0 ||
        t.compare(0, 2, "0D") == 0) {
      x = std::strtoull(t.c_str() + 2, nullptr, 16);
    } else if (std::isdigit(static_cast<unsigned char>(t[0]))) {
      x = std::strtoull(t.c_str(), nullptr, 0);
    } else {
      g.addresses.push_back({at, t});
      return;
    }
    if (negative) x = 0 - x;
    std::memcpy(&g.data[at], &x, std::min<uint64_t>(element, 8));
  }

  vector<Variable> parameters() {
    vector<Variable> list;
    expect("(");
    while (!take(")")) {
      Variable v;
      const Token& space = next();
      v.space = space.text.substr(1);
      if (v.space != "param") bad(space.line, "a parameter in " + space.text);
      qualifiers(v);
      v.name = next().text;
      array_and_value(v, false);
      list.push_back(v);
      take(",");
    }
    return list;
  }

  void function() {
    Function f;
    f.entry = next().text == ".entry";
    if (!f.entry && is("(")) f.results = parameters();
    f.name = next().text;
    if (is("(")) f.parameters = parameters();
    while (!is("{") && !is(";")) {
      const Token& token = next();
      if (token.text == ".maxntid" || token.text == ".reqntid") {
        f.most_threads = unsigned(std::atoi(next().text.c_str()));
        while (take(",")) f.most_threads *= unsigned(std::atoi(next().text.c_str()));
      } else if (token.text == ".minnctapersm" || token.text == ".maxnreg" || token.text == ".maxnctapersm") {
        next();
      } else if (token.text == ".pragma") {
        next();
        take(";");
      } else if (token.text != ".noreturn") {
        bad(token.line, "a function with " + token.text);
      }
    }
    unsigned offset = 0;
    for (auto* list : {&f.results, &f.parameters}) {
      for (auto& v : *list) {
        v.code = "p_" + c_name(v.name);
        if (f.entry) {
          offset = unsigned((offset + v.align - 1) / v.align * v.align);
          v.offset = offset;
          offset += unsigned(v.bytes);
        }
        f.variables[{0, v.name}] = v;
      }
    }
    if (!take(";")) {
      f.defined = true;
      f.parents.push_back(-1);
      expect("{");
      body(f, 0);
    }
    if (f.defined || !functions.count(f.name)) {
      if (!functions.count(f.name)) order.push_back(f.name);
      functions[f.name] = std::move(f);
    }
  }

  void body(Function& f, int scope) {
    while (!take("}")) {
      if (take("{")) {
        f.parents.push_back(scope);
        body(f, int(f.parents.size()) - 1);
        continue;
      }
      const Token& token = peek();
      const string& t = token.text;
      if (t == ".loc" || t == ".file") {
        skip_line();
      } else if (t == ".pragma") {
        while (!take(";")) at_++;
      } else if (t == ".reg") {
        registers(f, scope);
      } else if (t == ".local" || t == ".shared" || t == ".param" || t == ".extern") {
        bool is_extern = take(".extern");
        for (auto& v : declaration(is_extern)) {
          v.scope = scope;
          v.code = "v_" + c_name(v.name) + "_" + to_string(scope);
          if (v.space == "shared") {
            v.name = f.name + "/" + v.name;
            shared[v.name] = v;
            Variable here = v;
            f.variables[{scope, v.name.substr(f.name.size() + 1)}] = here;
          } else {
            f.variables[{scope, v.name}] = v;
          }
        }
      } else if (peek(1).text == ":") {
        Instruction label;
        label.label = t;
        label.scope = scope;
        label.site.line = token.line;
        at_ += 2;
        if (take(".branchtargets")) {
          do label.targets.push_back(next().text);
          while (take(","));
          expect(";");
        }
        f.body.push_back(label);
      } else if (t == ";") {
        at_++;
      } else {
        f.body.push_back(instruction(scope));
      }
    }
  }

  void registers(Function& f, int scope) {
    Variable v;
    v.space = next().text.substr(1);
    qualifiers(v);
    do {
      string name = next().text;
      if (take("<")) {
        next();
        expect(">");
        f.ranges[{scope, name}] = v.type;
      } else {
        v.name = name;
        v.scope = scope;
        v.code = "r_" + c_name(name) + "_" + to_string(scope);
        f.variables[{scope, name}] = v;
      }
    } while (take(","));
    expect(";");
  }

  Instruction instruction(int scope) {
    Instruction in;
    in.scope = scope;
    size_t start = peek().start;
    in.site.line = peek().line;
    if (take("@")) {
      in.unless = take("!");
      in.predicate = next().text;
    }
    auto parts = split(next().text, '.');
    in.opcode = parts[0];
    in.rest.assign(parts.begin() + 1, parts.end());
    while (!is(";")) {
      in.operands.push_back(operand());
      if (!is(";")) expect(",");
    }
    size_t end = peek().end;
    expect(";");
    bool space = false;
    for (char c : text_.substr(start, end - start)) {
      bool blank = std::isspace(static_cast<unsigned char>(c)) != 0;
      if (!blank || !space) in.site.text += blank ? ' ' : c;
      space = blank;
    }
    return in;
  }

  Operand operand() {
    Operand o = single();
    if (take("|")) {
      Operand pair;
      pair.kind = Operand::kList;
      pair.parts = {o, single()};
      return pair;
    }
    return o;
  }

  Operand single() {
    Operand o;
    if (take("!")) {
      o = single();
      o.negated = true;
      return o;
    }
    if (take("{") || is("(")) {
      bool list = take("(");
      o.kind = list ? Operand::kList : Operand::kVector;
      while (!take(list ? ")" : "}")) {
        o.parts.push_back(operand());
        take(",");
      }
      return o;
    }
    if (take("[")) {
      o = single();
      o.kind = o.kind == Operand::kInteger ? Operand::kInteger : o.kind;
      Operand address;
      address.kind = Operand::kAddress;
      if (o.kind == Operand::kInteger) address.offset = std::strtoll(o.text.c_str(), nullptr, 0);
      else address.name = o.name, address.offset = o.offset;
      expect("]");
      return address;
    }
    bool negative = take("-");
    const Token& token = next();
    const string& t = token.text;
    if (t == "_") return o;
    if (std::isdigit(static_cast<unsigned char>(t[0]))) {
      char mark = t.size() > 1 ? char(std::tolower(t[1])) : ' ';
      if (t[0] == '0' && (mark == 'f' || mark == 'd')) {
        o.kind = Operand::kFloat;
        o.float_bits = mark == 'f' ? 32 : 64;
        o.text =
            string("as<") + (mark == 'f' ? "float>(0x" : "double>(0x") + t.substr(2) + (mark == 'f' ? "u)" : "ull)");
        if (negative) o.text = "-" + o.text;
        return o;
      }
      if (t.find('.') != string::npos) {
        o.kind = Operand::kFloat;
        o.float_bits = 64;
        o.text = (negative ? "-" : "") + t;
        return o;
      }
      o.kind = Operand::kInteger;
      uint64_t x = std::strtoull(t.c_str(), nullptr, 0);
      o.text = to_string(negative ? static_cast<long long>(0 - x) : static_cast<long long>(x));
      if (!negative && x >> 63) o.text = to_string(x) + "ull";
      return o;
    }
    if (!is_word(t[0])) bad(token.line, "an operand " + t);
    o.kind = t[0] == '%' ? Operand::kRegister : Operand::kSymbol;
    o.name = t;
    if (is("+") || is("-")) {
      bool minus = next().text == "-";
      if (take("-")) minus = !minus;
      long long x = std::strtoll(next().text.c_str(), nullptr, 0);
      o.offset = minus ? -x : x;
    }
    return o;
  }

  const string& text_;
  vector<Token> tokens_;
  size_t at_ = 0;
};

// --- parts to C++

class Emitter {
 public:
  Emitter(Parser& parser, const Function& entry, bool checks) : parser_(parser), entry_(entry), checks_(checks) {}

  KernelCode kernel() {
    kernel_.name = entry_.name;
    kernel_.most_threads = entry_.most_threads;
    for (auto& p : entry_.parameters) {
      kernel_.parameters.push_back({p.offset, unsigned(p.bytes)});
      kernel_.parameter_bytes = std::max(kernel_.parameter_bytes, p.offset + unsigned(p.bytes));
    }
    reach(entry_);
    lay_out_shared();
    string functions, prototypes;
    for (auto& name : reached_order_) {
      const Function& f = parser_.functions.at(name);
      string signature = this->signature(f);
      if (!f.entry) prototypes += signature + ";\n";
      functions += signature + " {\n" + this->body(f) + "}\n\n";
    }
    string& code = kernel_.code;
    code = "#include \"ptx.h\"\nusing namespace cudasim;\n\n";
    code += "extern \"C\" {\nconst Runtime* cudasim_runtime;\n";
    code += "u64 cudasim_globals[" + to_string(kernel_.globals.size() + 1) + "];\n";
    code += "Range cudasim_ranges[" + to_string(kernel_.sites.size() + 1) + "];\n}\n";
    code += "#define R cudasim_runtime\n\n" + prototypes + "\n" + functions;
    return std::move(kernel_);
  }

 private:
  // --- what a kernel consists of

  void reach(const Function& f) {
    if (!reached_.insert(f.name).second) return;
    for (auto& in : f.body) {
      if (in.opcode != "call") continue;
      for (auto& o : in.operands) {
        if (o.kind != Operand::kSymbol) continue;
        auto callee = parser_.functions.find(o.name);
        if (callee != parser_.functions.end() && callee->second.defined) reach(callee->second);
      }
    }
    reached_order_.push_back(f.name);
  }

  static void names_in(const Operand& o, std::set<string>& names) {
    if (!o.name.empty()) names.insert(o.name);
    for (auto& part : o.parts) names_in(part, names);
  }

  // Only what it uses takes up room. A gap behind each variable is watched when checks are on.
  void lay_out_shared() {
    std::set<string> names;
    for (auto& function : reached_order_) {
      std::set<string> used;
      for (auto& in : parser_.functions.at(function).body)
        for (auto& o : in.operands) names_in(o, used);
      for (auto& name : used) {
        names.insert(name);
        names.insert(function + "/" + name);
      }
    }
    unsigned at = 0, dynamic_align = 16;
    for (auto& [name, v] : parser_.shared) {
      if (!names.count(name)) continue;
      if (v.dynamic) {
        dynamic_align = std::max(dynamic_align, unsigned(v.align));
        continue;
      }
      unsigned align = unsigned(v.align);
      kernel_.shared_bytes = (kernel_.shared_bytes + align - 1) / align * align + unsigned(v.bytes);
      if (checks_) at += 64;
      at = (at + align - 1) / align * align;
      shared_at_[name] = at;
      string shown = name.substr(name.find('/') == string::npos ? 0 : name.find('/') + 1);
      kernel_.shared.push_back({shown, at, unsigned(v.bytes)});
      at += unsigned(v.bytes);
    }
    if (checks_) at += 64;
    kernel_.dynamic_start = (at + dynamic_align - 1) / dynamic_align * dynamic_align;
  }

  string signature(const Function& f) {
    if (f.entry) return "extern \"C\" void cudasim_kernel(Thread* t)";
    string s = "static void f_" + c_name(f.name) + "(Thread* t";
    for (auto* list : {&f.results, &f.parameters})
      for (auto& v : *list) s += ", u8* " + v.code;
    return s + ")";
  }

  string body(const Function& f) {
    function_ = &f;
    used_.clear();
    carries_ = false;
    string code;
    for (auto& in : f.body) {
      in_ = in;
      if (!in.label.empty()) {
        if (in.targets.empty()) code += label(in.label) + ":;\n";
        continue;
      }
      string statement = this->statement();
      if (!in.predicate.empty())
        statement = "if (" + string(in.unless ? "!" : "") + predicate(in.predicate) + ") { " + statement + " }";
      code += "  " + statement + "\n";
    }
    string declared;
    for (auto& [name, type] : used_) {
      string poison = type.kind == 'p'                      ? "false"
                      : type.kind == 'f' && type.bits == 32 ? "as<float>(~0u)"
                      : type.kind == 'f'                    ? "as<double>(~0ull)"
                                                            : c_type(type) + "(~0ull)";
      declared += "  " + c_type(type) + " " + name + " = " + poison + ";\n";
    }
    string frames;
    bool any_local = false;
    for (auto& [key, v] : f.variables) {
      if (v.space != "local" && (v.space != "param" || v.code.compare(0, 2, "v_") != 0)) continue;
      declared += "  alignas(16) u8 " + v.code + "[" + to_string(std::max<uint64_t>(v.bytes, 1)) + "];\n";
      declared += "  __builtin_memset(" + v.code + ", 0xff, sizeof " + v.code + ");\n";
      if (v.space != "local") continue;
      any_local = true;
      frames += "  const Frame frame_" + v.code + " = {u64(" + v.code + "), u64(" + v.code + ") + " +
                to_string(v.bytes) + ", t->frame};\n  t->frame = &frame_" + v.code + ";\n";
    }
    if (any_local) {
      // Closed at each return.
      declared +=
          "  struct Close { Thread* t; const Frame* outer; ~Close() { t->frame = outer; } } close{t, t->frame};\n";
      declared += frames;
    }
    if (carries_) declared += "  u32 carry = 0;\n";
    return declared + code;
  }

  // --- names

  template <class Map>
  const typename Map::mapped_type* look_up(const Map& map, const string& name, int* found = nullptr) const {
    for (int scope = in_.scope; scope >= 0; scope = function_->parents[size_t(scope)]) {
      auto at = map.find({scope, name});
      if (at == map.end()) continue;
      if (found) *found = scope;
      return &at->second;
    }
    return nullptr;
  }

  string label(const string& name) const {
    for (int scope = in_.scope; scope >= 0; scope = function_->parents[size_t(scope)])
      for (auto& in : function_->body)
        if (in.scope == scope && in.label == name) return "L_" + c_name(name) + "_" + to_string(scope);
    bad(in_.site.line, "no label " + name);
  }

  // Its C++ name and type; false when it is not one that was declared.
  bool find_register(const string& name, string& code, Type& type) {
    if (auto* v = look_up(function_->variables, name); v && v->space == "reg") {
      code = v->code;
      type = v->type;
      used_[code] = type;
      return true;
    }
    string prefix = name;
    while (!prefix.empty() && std::isdigit(static_cast<unsigned char>(prefix.back()))) prefix.pop_back();
    int scope = 0;
    if (prefix.size() == name.size()) return false;
    auto* range = look_up(function_->ranges, prefix, &scope);
    if (!range) return false;
    code = "r_" + c_name(name) + "_" + to_string(scope);
    type = *range;
    used_[code] = type;
    return true;
  }

  string predicate(const string& name) {
    string code;
    Type type;
    if (!find_register(name, code, type) || type.kind != 'p') bad(in_.site.line, "no predicate " + name);
    return code;
  }

  [[noreturn]] void unknown(const string& what = "") const {
    std::fprintf(stderr, "cudasim: kernel %s: PTX line %d: cannot translate %s%s\n", entry_.name.c_str(), in_.site.line,
                 in_.site.text.c_str(), what.empty() ? "" : (" (" + what + ")").c_str());
    std::abort();
  }

  // --- operands

  string symbol(const string& name, long long offset) {
    string plus = offset ? " + " + to_string(offset) : "";
    if (auto* v = look_up(function_->variables, name)) {
      if (v->space == "shared") return shared_symbol(v->name, plus);
      if (v->space == "param" && function_->entry && v->code.compare(0, 2, "p_") == 0)
        return "u64(t->parameters + " + to_string(v->offset) + ")" + plus;
      if (v->space != "reg") return "u64(" + v->code + ")" + plus;
    }
    if (parser_.shared.count(name)) return shared_symbol(name, plus);
    if (parser_.globals.count(name)) {
      auto& list = kernel_.globals;
      auto at = std::find(list.begin(), list.end(), name);
      auto index = at - list.begin();
      if (at == list.end()) list.push_back(name);
      return "cudasim_globals[" + to_string(index) + "]" + plus;
    }
    bad(in_.site.line, "no variable " + name);
  }

  string shared_symbol(const string& name, const string& plus) {
    auto at = shared_at_.find(name);
    return "u64(" + to_string(at == shared_at_.end() ? kernel_.dynamic_start : at->second) + ")" + plus;
  }

  string special(const string& name) const {
    static const std::map<string, string> names = {{"%laneid", "t->lane"},
                                                   {"%warpid", "t->warp"},
                                                   {"%nwarpid", "32u"},
                                                   {"%smid", "0u"},
                                                   {"%nsmid", "1u"},
                                                   {"%gridid", "t->grid"},
                                                   {"%dynamic_smem_size", "t->dynamic_shared_bytes"},
                                                   {"%total_smem_size", "t->dynamic_shared_bytes"},
                                                   {"%clock", "0u"},
                                                   {"%clock64", "0ull"},
                                                   {"%globaltimer", "0ull"},
                                                   {"%lanemask_eq", "(1u << t->lane)"},
                                                   {"%lanemask_lt", "((1u << t->lane) - 1u)"},
                                                   {"%lanemask_le", "((2u << t->lane) - 1u)"},
                                                   {"%lanemask_gt", "~((2u << t->lane) - 1u)"},
                                                   {"%lanemask_ge", "~((1u << t->lane) - 1u)"},
                                                   {"WARP_SZ", "32u"}};
    auto at = names.find(name);
    if (at != names.end()) return at->second;
    auto dot = name.find('.');
    if (dot != string::npos) {
      string base = name.substr(1, dot - 1), axis = name.substr(dot + 1);
      if ((base == "tid" || base == "ntid" || base == "ctaid" || base == "nctaid") &&
          (axis == "x" || axis == "y" || axis == "z"))
        return "t->" + base + "." + axis;
    }
    unknown("no register " + name);
  }

  // The operand's value, an expression of the C++ type of `type`.
  string value(const Operand& o, Type type) {
    string wanted = c_type(type), code;
    Type own;
    switch (o.kind) {
      case Operand::kRegister:
      case Operand::kSymbol:
        if (find_register(o.name, code, own)) {
          if (o.negated) code = "!" + code;
          break;
        }
        if (o.kind == Operand::kRegister || o.name == "WARP_SZ") {
          code = special(o.name);
          own = code == "t->grid" || code.find("ull") != string::npos ? Type{'u', 64} : Type{'u', 32};
          break;
        }
        code = "(" + symbol(o.name, o.offset) + ")";
        own = {'u', 64};
        break;
      case Operand::kInteger:
        if (type.kind == 'p') return o.text == "0" ? "false" : "true";
        if (type.floating()) return "as<" + wanted + ">(" + (type.bits == 32 ? "u32(" : "u64(") + o.text + "))";
        if (o.text == "-9223372036854775808") return wanted + "(1ull << 63)";
        return wanted + "(" + o.text + (o.text.back() == 'l' ? "" : "ll") + ")";
      case Operand::kFloat:
        own = {'f', o.float_bits};
        if (type.floating()) return type.bits == o.float_bits ? o.text : wanted + "(" + o.text + ")";
        return "as<" + wanted + ">(" + o.text + ")";
      case Operand::kVector: return packed(o, type);
      default: unknown("an operand");
    }
    return converted(code, own, type);
  }

  // Bits stay as they are; of a wider register the low ones are taken.
  string converted(const string& code, Type from, Type to) {
    string wanted = c_type(to);
    if (c_type(from) == wanted) return code;
    if (from.kind == 'p' || to.kind == 'p') {
      if (from.kind == 'p' && !to.floating()) return wanted + "(" + code + ")";
      unknown("a predicate as a number");
    }
    if (!from.floating() && !to.floating()) return wanted + "(" + code + ")";
    if (from.bits != to.bits) {
      if (from.floating() && from.bits > to.bits) unknown("half of a float");
      if (from.floating()) return converted("as<u" + to_string(from.bits) + ">(" + code + ")", {'u', from.bits}, to);
      if (from.bits > to.bits) return converted("u" + to_string(to.bits) + "(" + code + ")", {'u', to.bits}, to);
      unknown("a register too narrow");
    }
    return "as<" + wanted + ">(" + code + ")";
  }

  string packed(const Operand& o, Type type) {
    int bits = type.bits / int(o.parts.size());
    string word = "u" + to_string(type.bits), code;
    for (size_t i = 0; i < o.parts.size(); i++) {
      string part = word + "(" + value(o.parts[i], {'u', bits}) + ")";
      if (i) part = part + " << " + to_string(bits * int(i));
      code += (i ? " | " : "") + ("(" + part + ")");
    }
    return converted("(" + code + ")", {'u', type.bits}, type);
  }

  // A statement that gives the operand the value of an expression of type `type`.
  string assign(const Operand& o, Type type, const string& expression) {
    if (o.kind == Operand::kSink) return "(void)(" + expression + ");";
    if (o.kind == Operand::kVector) {
      int bits = type.bits / int(o.parts.size());
      string word = "u" + to_string(type.bits);
      string code = "{ const " + word + " whole = " + converted("(" + expression + ")", type, {'u', type.bits}) + "; ";
      for (size_t i = 0; i < o.parts.size(); i++)
        code += assign(o.parts[i], {'u', bits}, "u" + to_string(bits) + "(whole >> " + to_string(bits * int(i)) + ")") +
                " ";
      return code + "}";
    }
    string code;
    Type own;
    if (!find_register(o.name, code, own)) bad(in_.site.line, "no register " + o.name);
    if (own.kind == 'p' || type.kind == 'p') {
      if (own.kind != 'p') unknown("a predicate to " + o.name);
      return code + " = " + expression + ";";
    }
    // A narrower value is extended as its type says.
    if (!own.floating() && !type.floating()) return code + " = " + c_type(own) + "(" + expression + ");";
    if (own.bits > type.bits && own.floating()) unknown("a register too wide");
    if (own.bits > type.bits)
      return code + " = " + c_type(own) + "(" + converted("(" + expression + ")", type, {'u', type.bits}) + ");";
    return code + " = " + converted("(" + expression + ")", type, own) + ";";
  }

  const Operand& operand(size_t i) const {
    if (i >= in_.operands.size()) bad(in_.site.line, "too few operands: " + in_.site.text);
    return in_.operands[i];
  }
  string value(size_t i, Type type) { return value(operand(i), type); }

  // --- modifiers

  bool take(const string& modifier) {
    auto at = std::find(in_.rest.begin(), in_.rest.end(), modifier);
    if (at == in_.rest.end()) return false;
    in_.rest.erase(at);
    return true;
  }

  string take_any(std::initializer_list<const char*> modifiers) {
    for (auto* m : modifiers)
      if (take(m)) return m;
    return "";
  }

  Type take_type() {
    for (size_t i = 0; i < in_.rest.size(); i++) {
      Type type;
      if (!parse_type(in_.rest[i], type)) continue;
      in_.rest.erase(in_.rest.begin() + long(i));
      return type;
    }
    unknown("no type");
  }

  // The name of a Rounding, or nothing.
  string take_rounding() {
    string r = take_any({"rn", "rz", "rm", "rp"});
    return r == "rn" ? "kNearest" : r == "rz" ? "kToZero" : r == "rm" ? "kDown_" : r == "rp" ? "kUp_" : "";
  }

  // The number of the instruction, one however often it is asked.
  int site() {
    if (site_ < 0) {
      site_ = int(kernel_.sites.size());
      kernel_.sites.push_back(in_.site);
    }
    return site_;
  }

  // --- statements

  string statement() {
    using Method = string (Emitter::*)();
    static const std::map<string, Method> methods = {{"ld", &Emitter::load},
                                                     {"ldu", &Emitter::load},
                                                     {"st", &Emitter::store},
                                                     {"mov", &Emitter::move},
                                                     {"cvta", &Emitter::address},
                                                     {"cvt", &Emitter::convert},
                                                     {"setp", &Emitter::set_predicate},
                                                     {"set", &Emitter::set},
                                                     {"selp", &Emitter::select},
                                                     {"slct", &Emitter::select_sign},
                                                     {"add", &Emitter::add},
                                                     {"sub", &Emitter::add},
                                                     {"addc", &Emitter::add},
                                                     {"subc", &Emitter::add},
                                                     {"mul", &Emitter::multiply},
                                                     {"mad", &Emitter::multiply_add},
                                                     {"madc", &Emitter::multiply_add},
                                                     {"fma", &Emitter::multiply_add},
                                                     {"div", &Emitter::divide},
                                                     {"rem", &Emitter::two},
                                                     {"min", &Emitter::extreme},
                                                     {"max", &Emitter::extreme},
                                                     {"and", &Emitter::two},
                                                     {"or", &Emitter::two},
                                                     {"xor", &Emitter::two},
                                                     {"shl", &Emitter::two},
                                                     {"shr", &Emitter::two},
                                                     {"not", &Emitter::one},
                                                     {"cnot", &Emitter::one},
                                                     {"neg", &Emitter::one},
                                                     {"abs", &Emitter::one},
                                                     {"popc", &Emitter::one},
                                                     {"clz", &Emitter::one},
                                                     {"brev", &Emitter::one},
                                                     {"bfind", &Emitter::one},
                                                     {"sqrt", &Emitter::one},
                                                     {"rsqrt", &Emitter::one},
                                                     {"rcp", &Emitter::one},
                                                     {"ex2", &Emitter::one},
                                                     {"lg2", &Emitter::one},
                                                     {"sin", &Emitter::one},
                                                     {"cos", &Emitter::one},
                                                     {"tanh", &Emitter::one},
                                                     {"copysign", &Emitter::two},
                                                     {"testp", &Emitter::test},
                                                     {"bfe", &Emitter::bits},
                                                     {"bfi", &Emitter::bits},
                                                     {"shf", &Emitter::bits},
                                                     {"lop3", &Emitter::bits},
                                                     {"prmt", &Emitter::bits},
                                                     {"bra", &Emitter::branch},
                                                     {"brx", &Emitter::branch},
                                                     {"ret", &Emitter::leave},
                                                     {"exit", &Emitter::leave},
                                                     {"trap", &Emitter::leave},
                                                     {"call", &Emitter::call},
                                                     {"bar", &Emitter::barrier},
                                                     {"barrier", &Emitter::barrier},
                                                     {"shfl", &Emitter::shuffle},
                                                     {"vote", &Emitter::vote},
                                                     {"redux", &Emitter::reduce},
                                                     {"activemask", &Emitter::active},
                                                     {"mma", &Emitter::mma},
                                                     {"ldmatrix", &Emitter::load_matrix},
                                                     {"cp", &Emitter::copy_async},
                                                     {"atom", &Emitter::atomic},
                                                     {"red", &Emitter::atomic},
                                                     {"dp2a", &Emitter::dot},
                                                     {"dp4a", &Emitter::dot},
                                                     {"isspacep", &Emitter::is_space},
                                                     {"membar", &Emitter::nothing},
                                                     {"fence", &Emitter::nothing},
                                                     {"prefetch", &Emitter::nothing},
                                                     {"nanosleep", &Emitter::nothing}};
    auto method = methods.find(in_.opcode);
    if (method == methods.end()) unknown();
    site_ = -1;
    string code = (this->*method->second)();
    if (!in_.rest.empty()) unknown("modifier ." + in_.rest[0]);
    return code;
  }

  string nothing() {
    in_.rest.clear();
    return ";";
  }

  // --- memory

  string take_space() {
    for (auto* name : {"global", "shared", "local", "param", "const"}) {
      if (take(name) || take(string(name) + "::cta") || take(string(name) + "::entry") || take(string(name) + "::func"))
        return name;
    }
    return "";
  }

  // Whether other threads may use it at the same time.
  bool take_memory_modifiers() {
    bool together = false;
    for (size_t i = 0; i < in_.rest.size();) {
      const string& m = in_.rest[i];
      static const std::set<string> plain = {"weak", "ca", "cg",  "cs",  "lu",  "cv",      "wb",
                                             "wt",   "nc", "gpu", "cta", "sys", "cluster", "noftz"};
      static const std::set<string> strong = {"volatile", "relaxed", "acquire", "release", "acq_rel"};
      bool hint = m.compare(0, 4, "L1::") == 0 || m.compare(0, 4, "L2::") == 0;
      if (!plain.count(m) && !strong.count(m) && !hint) {
        i++;
        continue;
      }
      together |= strong.count(m) != 0;
      in_.rest.erase(in_.rest.begin() + long(i));
    }
    return together;
  }

  string address_of(const Operand& o) {
    if (o.kind != Operand::kAddress) bad(in_.site.line, "no address: " + in_.site.text);
    if (o.name.empty()) return "u64(" + to_string(o.offset) + "ll)";
    string code;
    Type type;
    if (!find_register(o.name, code, type)) return symbol(o.name, o.offset);
    string plus = o.offset ? " + " + to_string(o.offset) + (type.bits == 64 ? "ll" : "") : "";
    return type.bits == 64 ? "u64(" + code + plus + ")" : "u64(u32(" + code + plus + "))";
  }

  // Checks the access to `bytes` at the C++ variable `a`, and makes the pointer `m` of it.
  string reached(const string& space, const string& use, int bytes, bool together) {
    string code, n = to_string(bytes);
    if (checks_ && space != "param" && space != "const") {
      string s = to_string(site());
      string range = "&cudasim_ranges[" + s + "]";
      string verb = use == "kRead" ? "read" : "write";
      bool plain = !together && use != "kAtomic";
      if (plain && space == "global") code = "R->global_" + verb + "(t, a, " + n + ", " + s + ", " + range + "); ";
      else if (plain && space == "shared") code = "R->shared_" + verb + "(t, a, " + n + ", " + s + "); ";
      else
        code = string("R->access(t, ") +
               (space == "global"   ? "kGlobal"
                : space == "shared" ? "kShared"
                : space == "local"  ? "kLocal"
                                    : "kGeneric") +
               ", " +
               (together && use == "kRead"    ? "kStrongRead"
                : together && use == "kWrite" ? "kStrongWrite"
                                              : use) +
               ", a, " + n + ", " + s + ", " + range + "); ";
    }
    return code + (space == "shared" ? "char* m = t->shared + a; " : "char* m = (char*)a; ");
  }

  int take_vector() { return take("v2") ? 2 : take("v4") ? 4 : take("v8") ? 8 : 1; }

  string load() {
    bool together = take_memory_modifiers();
    string space = take_space();
    int lanes = take_vector();
    Type type = take_type();
    string code = "{ const u64 a = " + address_of(operand(1)) + "; ";
    code += reached(space, "kRead", lanes * type.bits / 8, together);
    if (lanes == 1) return code + assign(operand(0), type, "get<" + c_type(type) + ">(m)") + " }";
    for (int i = 0; i < lanes; i++)
      code += assign(part(operand(0), i, lanes), type,
                     "get<" + c_type(type) + ">(m + " + to_string(i * type.bits / 8) + ")") +
              " ";
    return code + "}";
  }

  const Operand& part(const Operand& o, int i, int lanes) const {
    if (o.kind != Operand::kVector || int(o.parts.size()) != lanes)
      bad(in_.site.line, "expected " + to_string(lanes) + " registers: " + in_.site.text);
    return o.parts[size_t(i)];
  }

  string store() {
    bool together = take_memory_modifiers();
    string space = take_space();
    int lanes = take_vector();
    Type type = take_type();
    string code = "{ const u64 a = " + address_of(operand(0)) + "; ";
    code += reached(space, "kWrite", lanes * type.bits / 8, together);
    for (int i = 0; i < lanes; i++) {
      const Operand& from = lanes == 1 ? operand(1) : part(operand(1), i, lanes);
      code += "put<" + c_type(type) + ">(m" + (i ? " + " + to_string(i * type.bits / 8) : "") + ", " +
              value(from, type) + "); ";
    }
    return code + "}";
  }

  string address() {
    bool to = take("to");
    string space = take_space();
    Type type = take_type();
    string x = value(1, type);
    if (space == "shared" && to) x = c_type(type) + "(" + x + " - u64(t->shared))";
    if (space == "shared" && !to) x = c_type(type) + "(" + x + " + u64(t->shared))";
    return assign(operand(0), type, x);
  }

  string is_space() {
    string space = take_space();
    string a = value(1, {'u', 64});
    if (space == "shared") return assign(operand(0), {'p', 1}, a + " - u64(t->shared) < (1u << 20)");
    unknown();
  }

  string move() {
    Type type = take_type();
    return assign(operand(0), type, value(1, type));
  }

  string atomic() {
    bool result = in_.opcode == "atom";
    take_memory_modifiers();
    string space = take_space();
    string op = take_any({"add", "min", "max", "inc", "dec", "cas", "exch", "and", "or", "xor"});
    Type type = take_type();
    string c = c_type(type);
    size_t at = result ? 1 : 0;
    string code = "{ const u64 a = " + address_of(operand(at)) + "; " + reached(space, "kAtomic", type.bits / 8, true);
    code += "const " + c + " old = get<" + c + ">(m), b = " + value(at + 1, type) + "; ";
    string x;
    if (op == "add") x = "old + b";
    else if (op == "min") x = "old < b ? old : b";
    else if (op == "max") x = "old > b ? old : b";
    else if (op == "inc") x = "old >= b ? 0 : old + 1";
    else if (op == "dec") x = "old == 0 || old > b ? b : old - 1";
    else if (op == "cas") x = "old == b ? " + value(at + 2, type) + " : old";
    else if (op == "exch") x = "b";
    else if (op == "and") x = "old & b";
    else if (op == "or") x = "old | b";
    else if (op == "xor") x = "old ^ b";
    else unknown();
    code += "put<" + c + ">(m, " + c + "(" + x + ")); ";
    if (result) code += assign(operand(0), type, "old");
    return code + " }";
  }

  string copy_async() {
    if (!take("async")) unknown();
    if (take("commit_group")) return "R->copy_commit(t);";
    if (take("wait_group")) return "R->copy_wait(t, " + value(0, {'u', 32}) + ");";
    if (take("wait_all")) return "R->copy_wait_all(t);";
    take_memory_modifiers();
    bool to_shared = take("shared") || take("shared::cta");
    if (!to_shared || !take("global")) unknown();
    string bytes = value(2, {'u', 32}), from = bytes;
    if (in_.operands.size() > 3) {
      string name;
      Type type;
      bool is_predicate =
          operand(3).kind == Operand::kRegister && find_register(operand(3).name, name, type) && type.kind == 'p';
      from = is_predicate ? value(3, {'p', 1}) + " ? 0u : " + bytes : value(3, {'u', 32});
    }
    string s = to_string(site());
    return "R->copy_async(t, " + address_of(operand(0)) + ", " + address_of(operand(1)) + ", " + bytes + ", " + from +
           ", " + s + ", " + (checks_ ? "true" : "false") + ", &cudasim_ranges[" + s + "]);";
  }

  // --- arithmetic

  string flush(bool ftz, const string& x) { return ftz ? "flushed(" + x + ")" : x; }
  string finished(Type type, bool ftz, bool sat, string x) {
    if (ftz && type.bits == 32) x = "flushed(" + x + ")";
    return sat ? "saturated(" + x + ")" : x;
  }
  void only_numbers(Type type) {
    if (type.kind == 'h' || type.kind == 'H') unknown("arithmetic on 16-bit floats");
  }

  string add() {
    bool sub = in_.opcode.compare(0, 3, "sub") == 0;
    string rounding = take_rounding();
    bool ftz = take("ftz"), sat = take("sat"), sets = take("cc"), uses = in_.opcode.back() == 'c';
    Type type = take_type();
    only_numbers(type);
    string c = c_type(type), a = value(1, type), b = value(2, type);
    if (type.floating()) {
      a = flush(ftz, a);
      b = flush(ftz, b);
      string x = "(" + a + (sub ? " - " : " + ") + b + ")";
      if (!rounding.empty() && rounding != "kNearest") {
        if (type.bits != 32) unknown();
        x = "add_rounded(" + a + ", " + (sub ? "-" : "") + b + ", " + rounding + ")";
      }
      return assign(operand(0), type, finished(type, ftz, sat, x));
    }
    if (sat) {
      string wide = string("i64(") + a + ")" + (sub ? " - " : " + ") + "i64(" + b + ")";
      return assign(operand(0), type, "clamped<" + c + ">(" + wide + ")");
    }
    if (!sets && !uses) return assign(operand(0), type, c + "(" + a + (sub ? " - " : " + ") + b + ")");
    carries_ = true;
    string u = "u" + to_string(type.bits);
    string wide = string("u128(") + u + "(" + a + "))" + (sub ? " - " : " + ") + u + "(" + b + ")";
    if (uses) wide += sub ? " - carry" : " + carry";
    return "{ const u128 wide = " + wide + "; " + assign(operand(0), {'u', type.bits}, u + "(wide)") +
           (sets ? " carry = u32(wide >> " + to_string(type.bits) + ") & 1;" : "") + " }";
  }

  string multiply() {
    string rounding = take_rounding(), part = take_any({"lo", "hi", "wide"});
    bool ftz = take("ftz"), sat = take("sat");
    Type type = take_type();
    only_numbers(type);
    string a = value(1, type), b = value(2, type);
    if (type.floating()) {
      a = flush(ftz, a);
      b = flush(ftz, b);
      string x = "(" + a + " * " + b + ")";
      if (!rounding.empty() && rounding != "kNearest") {
        if (type.bits != 32) unknown();
        x = "multiply_rounded(" + a + ", " + b + ", " + rounding + ")";
      }
      return assign(operand(0), type, finished(type, ftz, sat, x));
    }
    return assign(operand(0), part == "wide" ? Type{type.kind, 2 * type.bits} : type, product(part, type, a, b));
  }

  string product(const string& part, Type type, const string& a, const string& b) {
    if (part == "hi") return "multiply_high(" + a + ", " + b + ")";
    // 16-bit operands are computed in 32 bits anyway, which must not be signed to be free of overflow.
    Type wide = {type.kind, part == "wide" ? 2 * type.bits : type.bits};
    string c = c_type(wide);
    if (part == "lo" && type.bits == 16) return c + "(u32(" + a + ") * u32(" + b + "))";
    if (part == "lo" || part == "wide") return c + "(" + c + "(" + a + ") * " + c + "(" + b + "))";
    unknown();
  }

  string multiply_add() {
    string rounding = take_rounding(), part = take_any({"lo", "hi", "wide"});
    bool ftz = take("ftz"), sat = take("sat"), sets = take("cc"), uses = in_.opcode == "madc";
    Type type = take_type();
    only_numbers(type);
    string a = value(1, type), b = value(2, type);
    if (type.floating()) {
      string c = value(3, type);
      if (type.bits == 64) {
        if (rounding != "kNearest") unknown();
        return assign(operand(0), type, "__builtin_fma(" + a + ", " + b + ", " + c + ")");
      }
      a = flush(ftz, a);
      b = flush(ftz, b);
      c = flush(ftz, c);
      string x = rounding == "kNearest" || rounding.empty()
                     ? "__builtin_fmaf(" + a + ", " + b + ", " + c + ")"
                     : "fma_rounded(" + a + ", " + b + ", " + c + ", " + rounding + ")";
      return assign(operand(0), type, finished(type, ftz, sat, x));
    }
    if (sat) unknown();
    Type result = part == "wide" ? Type{type.kind, 2 * type.bits} : type;
    string c = value(3, result), p = product(part, type, a, b);
    if (!sets && !uses) return assign(operand(0), result, c_type(result) + "(" + p + " + " + c + ")");
    carries_ = true;
    string u = "u" + to_string(result.bits);
    return "{ const u128 wide = u128(" + u + "(" + p + ")) + " + u + "(" + c + ")" + (uses ? " + carry" : "") + "; " +
           assign(operand(0), {'u', result.bits}, u + "(wide)") +
           (sets ? " carry = u32(wide >> " + to_string(result.bits) + ") & 1;" : "") + " }";
  }

  // Products of small integers in two registers, added up.
  string dot() {
    bool four = in_.opcode == "dp4a", high = !four && take_any({"lo", "hi"}) == "hi";
    Type a = take_type(), b = take_type();
    Type sum = {a.kind == 's' || b.kind == 's' ? 's' : 'u', 32};
    string c = c_type(sum), x = value(3, sum);
    for (int i = 0; i < (four ? 4 : 2); i++) {
      string left = c_type({a.kind, four ? 8 : 16}) + "(" + value(1, a) + " >> " + to_string(i * (four ? 8 : 16)) + ")";
      string right = c_type({b.kind, 8}) + "(" + value(2, b) + " >> " + to_string(8 * (i + (high ? 2 : 0))) + ")";
      x += " + " + c + "(" + left + ") * " + c + "(" + right + ")";
    }
    return assign(operand(0), sum, x);
  }

  string divide() {
    string rounding = take_rounding();
    bool rough = take("approx") || take("full"), ftz = take("ftz");
    Type type = take_type();
    only_numbers(type);
    string a = value(1, type), b = value(2, type);
    if (!type.floating()) return assign(operand(0), type, "divide<" + c_type(type) + ">(" + a + ", " + b + ")");
    a = flush(ftz, a);
    b = flush(ftz, b);
    string x = "(" + a + " / " + b + ")";
    if (!rough && rounding != "kNearest") {
      if (type.bits != 32) unknown();
      x = "divide_rounded(" + a + ", " + b + ", " + rounding + ")";
    }
    return assign(operand(0), type, finished(type, ftz, false, x));
  }

  string extreme() {
    bool is_min = in_.opcode == "min", ftz = take("ftz"), nan = take("NaN");
    Type type = take_type();
    only_numbers(type);
    string name = type.floating() ? (is_min ? "least_" : "greatest_") + string(nan ? "or_nan" : "number")
                                  : (is_min ? "least" : "greatest");
    string x = flush(ftz, value(1, type));
    for (size_t i = 2; i < in_.operands.size(); i++)
      x = name + "<" + c_type(type) + ">(" + x + ", " + flush(ftz, value(i, type)) + ")";
    return assign(operand(0), type, x);
  }

  string two() {
    const string& op = in_.opcode;
    Type type = take_type();
    string c = c_type(type), a = value(1, type);
    if (op == "shl" || op == "shr") {
      string by = value(2, {'u', 32});
      return assign(operand(0), type, (op == "shl" ? "shift_left<" : "shift_right<") + c + ">(" + a + ", " + by + ")");
    }
    string b = value(2, type);
    if (op == "rem") return assign(operand(0), type, "remainder<" + c + ">(" + a + ", " + b + ")");
    if (op == "copysign")
      return assign(operand(0), type,
                    (type.bits == 32 ? "__builtin_copysignf(" : "__builtin_copysign(") + b + ", " + a + ")");
    string sign = op == "and" ? " & " : op == "or" ? " | " : " ^ ";
    return assign(operand(0), type, c + "(" + a + sign + b + ")");
  }

  string one() {
    const string& op = in_.opcode;
    string rounding = take_rounding();
    bool rough = take("approx"), ftz = take("ftz"), shift = take("shiftamt");
    Type type = take_type();
    if ((op == "neg" || op == "abs") && (type.kind == 'h' || type.kind == 'H')) {
      string sign = type.bits == 32 ? "0x80008000u" : "0x8000u";
      return assign(operand(0), type,
                    c_type(type) + "(" + value(1, type) + (op == "neg" ? " ^ " + sign : " & ~" + sign) + ")");
    }
    only_numbers(type);
    string c = c_type(type), u = "u" + to_string(type.bits), a = value(1, type), x;
    if (op == "not") x = type.kind == 'p' ? "!" + a : c + "(~" + a + ")";
    else if (op == "cnot") x = c + "(" + a + " == 0)";
    else if (op == "popc" || op == "clz" || op == "bfind") {
      string call = op == "popc"
                        ? (type.bits == 64 ? "u32(__builtin_popcountll(" : "u32(__builtin_popcount(") + a + "))"
                    : op == "clz" ? "leading_zeros(" + u + "(" + a + "))"
                                  : "highest_bit(" + a + ")";
      if (shift) call = "(" + call + " == ~0u ? ~0u : " + to_string(type.bits - 1) + "u - " + call + ")";
      return assign(operand(0), {'u', 32}, call);
    } else if (op == "brev") x = "reversed<" + u + ">(" + a + ")";
    else if (!type.floating())
      x = op == "neg" ? c + "(0 - " + a + ")" : c + "(" + a + " < 0 ? 0 - " + a + " : " + a + ")";
    else {
      bool single = type.bits == 32;
      string f = single ? "f(" : "(", in = flush(ftz, a);
      if (op == "neg") x = "-" + in;
      else if (op == "abs") x = "__builtin_fabs" + f + in + ")";
      else if (op == "sqrt" && (rough || rounding == "kNearest")) x = "__builtin_sqrt" + f + in + ")";
      else if (op == "sqrt" && single) x = "root_rounded(" + in + ", " + rounding + ")";
      else if (op == "rcp" && (rough || rounding == "kNearest")) x = (single ? "(1.f / " : "(1. / ") + in + ")";
      else if (op == "rcp" && single) x = "divide_rounded(1.f, " + in + ", " + rounding + ")";
      else if (op == "rsqrt")
        x = single ? "float(1. / __builtin_sqrt(double(" + in + ")))" : "(1. / __builtin_sqrt(" + in + "))";
      else if (!single) unknown();
      else if (op == "ex2") x = "__builtin_exp2f(" + in + ")";
      else if (op == "lg2") x = "__builtin_log2f(" + in + ")";
      else if (op == "sin") x = "__builtin_sinf(" + in + ")";
      else if (op == "cos") x = "__builtin_cosf(" + in + ")";
      else if (op == "tanh") x = "__builtin_tanhf(" + in + ")";
      else unknown();
      x = finished(type, ftz, false, x);
    }
    return assign(operand(0), type, x);
  }

  string test() {
    string what = take_any({"finite", "infinite", "number", "notanumber", "normal", "subnormal"});
    Type type = take_type();
    string a = value(1, type), x;
    if (what == "finite") x = "__builtin_isfinite(" + a + ")";
    else if (what == "infinite") x = "__builtin_isinf(" + a + ") != 0";
    else if (what == "number") x = a + " == " + a;
    else if (what == "notanumber") x = a + " != " + a;
    else if (what == "normal") x = "__builtin_isnormal(" + a + ")";
    else x = "(" + a + " != 0 && __builtin_isfinite(" + a + ") && !__builtin_isnormal(" + a + "))";
    return assign(operand(0), {'p', 1}, x);
  }

  string bits() {
    const string& op = in_.opcode;
    if (op == "shf") {
      bool left = take_any({"l", "r"}) == "l", wrap = take_any({"wrap", "clamp"}) == "wrap";
      Type type = take_type();
      string by = value(3, {'u', 32});
      by = wrap ? "(" + by + " & 31)" : "least<u32>(" + by + ", 32)";
      return assign(
          operand(0), type,
          string(left ? "funnel_left(" : "funnel_right(") + value(1, type) + ", " + value(2, type) + ", " + by + ")");
    }
    Type type = take_type(), u32 = {'u', 32};
    string c = c_type(type);
    if (op == "bfe")
      return assign(operand(0), type,
                    "extract<" + c + ">(" + value(1, type) + ", " + value(2, u32) + ", " + value(3, u32) + ")");
    if (op == "bfi")
      return assign(operand(0), type,
                    "insert<" + c + ">(" + value(1, type) + ", " + value(2, type) + ", " + value(3, u32) + ", " +
                        value(4, u32) + ")");
    if (op == "lop3")
      return assign(
          operand(0), type,
          "lop3(" + value(1, type) + ", " + value(2, type) + ", " + value(3, type) + ", " + value(4, u32) + ")");
    return assign(operand(0), type, "permute(" + value(1, type) + ", " + value(2, type) + ", " + value(3, u32) + ")");
  }

  // --- comparisons

  string compared(const string& how, Type type, const string& a, const string& b) {
    static const std::map<string, string> signs = {{"eq", "=="}, {"ne", "!="}, {"lt", "<"}, {"le", "<="},
                                                   {"gt", ">"},  {"ge", ">="}, {"lo", "<"}, {"ls", "<="},
                                                   {"hi", ">"},  {"hs", ">="}};
    string first = "(" + a, last = b + ")";
    if (type.floating()) {
      if (how == "num") return "(" + a + " == " + a + " && " + b + " == " + b + ")";
      if (how == "nan") return "(" + a + " != " + a + " || " + b + " != " + b + ")";
      if (how == "ne") return "(" + a + " < " + b + " || " + a + " > " + b + ")";
      if (how == "neu") return "(" + a + " != " + b + ")";
      if (how == "equ") return "!(" + a + " < " + b + " || " + a + " > " + b + ")";
      if (how == "ltu") return "!(" + a + " >= " + b + ")";
      if (how == "leu") return "!(" + a + " > " + b + ")";
      if (how == "gtu") return "!(" + a + " <= " + b + ")";
      if (how == "geu") return "!(" + a + " < " + b + ")";
    }
    auto sign = signs.find(how);
    if (sign == signs.end()) unknown("no comparison");
    return first + " " + sign->second + " " + last;
  }

  string comparison() {
    return take_any({"eq", "ne", "lt", "le", "gt", "ge", "lo", "ls", "hi", "hs", "equ", "neu", "ltu", "leu", "gtu",
                     "geu", "num", "nan"});
  }

  string set_predicate() {
    string how = comparison(), with = take_any({"and", "or", "xor"});
    bool ftz = take("ftz");
    Type type = take_type();
    only_numbers(type);
    string x = compared(how, type, flush(ftz, value(1, type)), flush(ftz, value(2, type)));
    string sign = with == "and" ? " && " : with == "or" ? " || " : " != ";
    const Operand& to = operand(0);
    string third = with.empty() ? "" : value(3, {'p', 1});
    auto joined = [&](const string& y) { return with.empty() ? y : "(" + y + sign + "(" + third + "))"; };
    if (to.kind != Operand::kList) return assign(to, {'p', 1}, joined(x));
    return "{ const bool x = " + joined(x) + ", y = " + joined("!" + x) + "; " + assign(to.parts[0], {'p', 1}, "x") +
           " " + assign(to.parts[1], {'p', 1}, "y") + " }";
  }

  string set() {
    string how = comparison();
    bool ftz = take("ftz");
    Type to = take_type(), type = take_type();
    string x = compared(how, type, flush(ftz, value(1, type)), flush(ftz, value(2, type)));
    return assign(operand(0), to, x + (to.floating() ? " ? 1.f : 0.f" : " ? ~0u : 0u"));
  }

  string select() {
    Type type = take_type();
    return assign(operand(0), type, "(" + value(3, {'p', 1}) + " ? " + value(1, type) + " : " + value(2, type) + ")");
  }

  string select_sign() {
    bool ftz = take("ftz");
    Type type = take_type(), by = take_type();
    return assign(operand(0), type,
                  "(" + flush(ftz, value(3, by)) + " >= 0 ? " + value(1, type) + " : " + value(2, type) + ")");
  }

  // --- conversions

  string convert() {
    string integer_rounding = take_any({"rni", "rzi", "rmi", "rpi"}), rounding = take_rounding();
    bool ftz = take("ftz"), sat = take("sat"), relu = take("relu");
    Type to = take_type(), from = take_type();
    if (to.bits == 32 && (to.kind == 'h' || to.kind == 'H')) {
      // Two floats: the first goes into the upper half.
      auto half = [&](size_t i) { return to_half(to, value(i, from), rounding, relu); };
      return assign(operand(0), to, "(u32(" + half(1) + ") << 16 | " + half(2) + ")");
    }
    string a = value(1, from);
    bool from_half = from.kind == 'h' || from.kind == 'H', to_half = to.kind == 'h' || to.kind == 'H';
    if (from_half) {
      a = (from.kind == 'h' ? "from_bf16(" : "from_f16(") + a + ")";
      from = {'f', 32};
    }
    if (to_half) {
      if (from.floating() && from.bits == 32) return assign(operand(0), to, this->to_half(to, a, rounding, relu));
      if (!from.floating() && from.bits <= 16)
        return assign(operand(0), to, this->to_half(to, "float(" + a + ")", rounding, relu));
      unknown();
    }
    if (relu) unknown();
    if (from.floating() && to.floating()) {
      string f = from.bits == 32 ? "f(" : "(";
      if (ftz && from.bits == 32) a = "flushed(" + a + ")";
      if (!integer_rounding.empty()) a = whole(integer_rounding, f, a);
      if (from.bits == 64 && to.bits == 32)
        a = rounding == "kNearest" || rounding.empty() ? "float(" + a + ")" : "rounded(" + a + ", 0, " + rounding + ")";
      else if (from.bits == 32 && to.bits == 64) a = "double(" + a + ")";
      return assign(operand(0), to, finished(to, ftz, sat, a));
    }
    if (from.floating()) {
      string f = from.bits == 32 ? "f(" : "(";
      if (ftz && from.bits == 32) a = "flushed(" + a + ")";
      return assign(operand(0), to, "to_integer<" + c_type(to) + ">(" + whole(integer_rounding, f, a) + ")");
    }
    if (to.floating()) {
      string x;
      if (rounding == "kNearest" || (to.bits == 64 && from.bits < 64))
        x = (to.bits == 32 ? "float(" : "double(") + a + ")";
      else if (to.bits == 32) x = "to_float((long double)(" + a + "), " + rounding + ")";
      else unknown();
      return assign(operand(0), to, finished(to, false, sat, x));
    }
    return assign(operand(0), to, sat ? "clamped<" + c_type(to) + ">(" + a + ")" : c_type(to) + "(" + a + ")");
  }

  string whole(const string& how, const string& f, const string& a) {
    if (how == "rni") return "__builtin_rint" + f + a + ")";
    if (how == "rzi") return "__builtin_trunc" + f + a + ")";
    if (how == "rmi") return "__builtin_floor" + f + a + ")";
    if (how == "rpi") return "__builtin_ceil" + f + a + ")";
    unknown("no rounding");
  }

  string to_half(Type to, string a, const string& rounding, bool relu) {
    if (relu) a = "(" + a + " < 0 ? 0.f : " + a + ")";
    if (to.kind == 'h' && (rounding == "kNearest" || rounding == "kToZero"))
      return "to_bf16(" + a + ", " + rounding + ")";
    if (to.kind == 'H' && rounding == "kNearest") return "to_f16(" + a + ")";
    unknown();
  }

  // --- control

  string branch() {
    take("uni");
    if (in_.opcode == "bra") return "goto " + label(operand(0).name) + ";";
    if (!take("idx")) unknown();
    string code = "switch (" + value(0, {'u', 32}) + ") { ";
    const string table = operand(1).name;
    for (auto& in : function_->body) {
      if (in.label != table || in.targets.empty()) continue;
      for (size_t i = 0; i < in.targets.size(); i++)
        code += "case " + to_string(i) + ": goto " + label(in.targets[i]) + "; ";
    }
    return code + "default: R->trap(t, \"branches to no target\", " + to_string(site()) + "); }";
  }

  string leave() {
    take("uni");
    if (in_.opcode == "trap") return "R->trap(t, \"traps\", " + to_string(site()) + ");";
    if (in_.opcode == "exit" && !function_->entry) unknown("exit in a function");
    return "return;";
  }

  string call() {
    take("uni");
    size_t at = operand(0).kind == Operand::kList ? 1 : 0;
    const string& name = operand(at).name;
    if (name == "__assertfail") return "R->trap(t, \"an assertion fails\", " + to_string(site()) + ");";
    auto callee = parser_.functions.find(name);
    if (callee == parser_.functions.end() || !callee->second.defined) unknown("no function " + name);
    string code = "f_" + c_name(name) + "(t";
    auto pass = [&](const Operand& list) {
      for (auto& o : list.parts) {
        auto* v = look_up(function_->variables, o.name);
        if (!v || v->space != "param") unknown("an argument");
        code += ", " + v->code;
      }
    };
    if (at == 1) pass(operand(0));
    if (in_.operands.size() > at + 1) pass(operand(at + 1));
    return code + ");";
  }

  // --- threads together

  string meeting() {
    kernel_.meets = true;
    return to_string(site());
  }

  string barrier() {
    // bar is barrier.aligned; bar.warp.sync is of a warp.
    if (take("warp")) {
      if (!take("sync")) unknown();
      return "R->warp_barrier(t, " + value(0, {'u', 32}) + ", " + meeting() + ");";
    }
    take("cta");
    take("aligned");
    string what = take_any({"sync", "arrive", "red"});
    if (what == "red") {
      string how = take_any({"popc", "and", "or"});
      Type type = take_type();
      size_t n = in_.operands.size();
      string threads = n == 4 ? value(2, {'u', 32}) : "0u";
      string x = "R->barrier_reduce(t, " + value(1, {'u', 32}) + ", " + threads + ", " +
                 string(how == "and" ? "!" : "") + "(" + value(n - 1, {'p', 1}) + "), " + meeting() + ")";
      if (how == "popc") return assign(operand(0), type, x);
      return assign(operand(0), type, x + (how == "and" ? " == 0" : " != 0"));
    }
    if (what.empty()) unknown();
    string threads = in_.operands.size() > 1 ? value(1, {'u', 32}) : "0u";
    return "R->barrier(t, " + value(0, {'u', 32}) + ", " + threads + ", " + (what == "sync" ? "true" : "false") + ", " +
           meeting() + ");";
  }

  string shuffle() {
    if (!take("sync")) unknown("without .sync");
    string mode = take_any({"up", "down", "bfly", "idx"});
    Type type = take_type(), u32 = {'u', 32};
    string kind = mode == "up" ? "kUp" : mode == "down" ? "kDown" : mode == "bfly" ? "kBfly" : "kIdx";
    const Operand& to = operand(0);
    bool pair = to.kind == Operand::kList;
    string x = "R->shuffle(t, " + kind + ", " + value(1, u32) + ", " + value(2, u32) + ", " + value(3, u32) + ", " +
               value(4, u32) + ", &in_range, " + meeting() + ")";
    return "{ bool in_range; const cudasim::u32 x = " + x + "; " + assign(pair ? to.parts[0] : to, type, "x") + " " +
           (pair ? assign(to.parts[1], {'p', 1}, "in_range") : "") + " }";
  }

  string vote() {
    if (!take("sync")) unknown("without .sync");
    string mode = take_any({"all", "any", "uni", "ballot"});
    Type type = take_type();
    string kind = mode == "all" ? "kAll" : mode == "any" ? "kAny" : mode == "uni" ? "kUni" : "kBallot";
    string x = "R->vote(t, " + kind + ", " + value(1, {'p', 1}) + ", " + value(2, {'u', 32}) + ", " + meeting() + ")";
    return assign(operand(0), type, type.kind == 'p' ? x + " != 0" : x);
  }

  string reduce() {
    if (!take("sync")) unknown();
    string op = take_any({"add", "min", "max", "and", "or", "xor"});
    Type type = take_type();
    string kind = op == "add"   ? "kAdd"
                  : op == "min" ? (type.kind == 's' ? "kMinSigned" : "kMin")
                  : op == "max" ? (type.kind == 's' ? "kMaxSigned" : "kMax")
                  : op == "and" ? "kAnd"
                  : op == "or"  ? "kOr"
                                : "kXor";
    return assign(
        operand(0), {'u', 32},
        "R->reduce(t, " + kind + ", " + value(1, {'u', 32}) + ", " + value(2, {'u', 32}) + ", " + meeting() + ")");
  }

  string active() {
    take_type();
    return assign(operand(0), {'u', 32}, "R->active(t)");
  }

  string mma() {
    string shape = take_any({"m16n8k16", "m16n8k8"});
    bool bf16 = std::count(in_.rest.begin(), in_.rest.end(), "bf16") == 2 &&
                std::count(in_.rest.begin(), in_.rest.end(), "f32") == 2;
    if (shape.empty() || !bf16 || !take("sync") || !take("aligned") || !take("row") || !take("col")) unknown();
    in_.rest.clear();
    int k = shape == "m16n8k16" ? 16 : 8;
    string code = "{ ";
    auto list = [&](const char* name, size_t at, int count, Type type) {
      code += "const " + c_type(type) + " " + name + "[] = {";
      if (operand(at).kind != Operand::kVector && count == 1) code += value(at, type);
      else
        for (int i = 0; i < count; i++) code += (i ? ", " : "") + value(part(operand(at), i, count), type);
      code += "}; ";
    };
    list("a", 1, k / 4, {'u', 32});
    list("b", 2, k / 8, {'u', 32});
    list("c", 3, 4, {'f', 32});
    code += "float d[4]; R->mma_bf16(t, " + to_string(k) + ", d, a, b, c, " + meeting() + "); ";
    for (int i = 0; i < 4; i++) code += assign(part(operand(0), i, 4), {'f', 32}, "d[" + to_string(i) + "]") + " ";
    return code + "}";
  }

  string load_matrix() {
    bool transposed = take("trans");
    int count = take("x4") ? 4 : take("x2") ? 2 : take("x1") ? 1 : 0;
    bool to_shared = take("shared") || take("shared::cta");
    if (count == 0 || !to_shared || !take("sync") || !take("aligned") || !take("m8n8") || !take("b16")) unknown();
    string code = "{ u32 d[4]; R->ldmatrix(t, " + to_string(count) + ", " + (transposed ? "true" : "false") + ", d, " +
                  address_of(operand(1)) + ", " + meeting() + ", " + (checks_ ? "true" : "false") + "); ";
    for (int i = 0; i < count; i++) {
      const Operand& to = count == 1 && operand(0).kind != Operand::kVector ? operand(0) : part(operand(0), i, count);
      code += assign(to, {'u', 32}, "d[" + to_string(i) + "]") + " ";
    }
    return code + "}";
  }

  Parser& parser_;
  const Function& entry_;
  const bool checks_;
  KernelCode kernel_;
  std::set<string> reached_;
  vector<string> reached_order_;
  std::map<string, unsigned> shared_at_;
  const Function* function_ = nullptr;
  Instruction in_;
  int site_ = -1;
  std::map<string, Type> used_;
  bool carries_ = false;
};

}  // namespace

Program head_of(const string& ptx) {
  Parser parser(ptx);
  parser.head();
  return std::move(parser.program);
}

Program translate(const string& ptx, bool checks) {
  Parser parser(ptx);
  parser.all();
  for (auto& name : parser.order) {
    const Function& f = parser.functions.at(name);
    if (f.entry) parser.program.kernels[name] = Emitter(parser, f, checks).kernel();
  }
  return std::move(parser.program);
}

}  // namespace cudasim
