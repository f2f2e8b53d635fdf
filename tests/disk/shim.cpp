// A disk under test, put between Node and the C library by LD_PRELOAD. Of all below TSTRAIN_DISK_ROOT it writes what is
// done into TSTRAIN_DISK_LOG, a call a line with tabs between: what changes the disk once it is done, with its data (and
// what the process says on standard output, so that one knows what had been promised), or, as far as TSTRAIN_DISK_FAULT
// is set, each call before it is made. A fault is `call <tab> path <tab> n <tab> errno <tab> until`: from its n-th call
// of that path to the until-th the call fails; with * for both, whatever changes the disk. Paths are relative to the
// root, with PID where the process's own stands.
#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <map>
#include <mutex>
#include <string>
#include <vector>

namespace {

using std::string;

template <class F>
F* real(const char* name) {
  return reinterpret_cast<F*>(dlsym(RTLD_NEXT, name));
}
#define REAL(name) static auto* const call = real<decltype(name)>(#name)

// A call and its line in the log are one: the order of lines is that of the calls.
std::recursive_mutex mutex;

struct Fault {
  string call, path;
  int from, error, until;
};

struct Disk {
  string root, pid = std::to_string(getpid());
  int log = -1;
  bool faults = false;
  Fault fault{};
  int seen = 0;

  Disk() {
    const char *root_name = getenv("TSTRAIN_DISK_ROOT"), *log_name = getenv("TSTRAIN_DISK_LOG");
    if (root_name == nullptr || log_name == nullptr) return;
    root = string(root_name) + "/";
    log = real<int(const char*, int, ...)>("open")(log_name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    const char* text = getenv("TSTRAIN_DISK_FAULT");
    faults = text != nullptr;
    if (!faults) return;
    std::vector<string> fields(1);
    for (; *text != 0; text++) {
      if (*text == '\t') fields.emplace_back();
      else fields.back() += *text;
    }
    if (fields.size() == 5) fault = {fields[0], fields[1], stoi(fields[2]), stoi(fields[3]), stoi(fields[4])};
  }

  void note(const string& line) const {
    static auto* const write_it = real<ssize_t(int, const void*, size_t)>("write");
    string all = line + '\n';
    for (size_t done = 0; done < all.size();) {
      ssize_t n = write_it(log, all.data() + done, all.size() - done);
      if (n < 0) abort();
      done += size_t(n);
    }
  }
};

Disk& disk() {
  static Disk d;
  return d;
}

// The path below the root, or nothing for what is elsewhere.
string below(const char* path) {
  if (path == nullptr || disk().log < 0) return "";
  std::filesystem::path whole(path);
  if (!whole.is_absolute()) {
    char here[4096];
    if (getcwd(here, sizeof here) == nullptr) return "";
    whole = here / whole;
  }
  string text = whole.lexically_normal().string();
  if (text + "/" == disk().root) return ".";
  if (text.size() > 1 && text.back() == '/') text.pop_back();
  return text.compare(0, disk().root.size(), disk().root) == 0 ? text.substr(disk().root.size()) : "";
}

struct Opened {
  string path;
  dev_t dev;
  ino_t ino;
};
std::map<int, Opened> opened;

string path_of(int fd) {
  auto found = opened.find(fd);
  if (found == opened.end()) return "";
  // The number may have been closed and given to something else.
  struct stat now;
  if (fstat(fd, &now) != 0 || now.st_dev != found->second.dev || now.st_ino != found->second.ino) {
    opened.erase(found);
    return "";
  }
  return found->second.path;
}

bool changes_disk(const string& call) {
  for (const char* each : {"create", "write", "fsync", "ftruncate", "unlink", "rmdir", "mkdir", "rename", "link"})
    if (call == each) return true;
  return false;
}

// Whether this call is to fail; errno is set then.
bool fails(const char* call, string path) {
  Disk& d = disk();
  if (path.empty() || !d.faults) return false;
  for (size_t at; (at = path.find("-" + d.pid)) != string::npos;) path.replace(at + 1, d.pid.size(), "PID");
  for (size_t at; (at = path.find("." + d.pid)) != string::npos;) path.replace(at + 1, d.pid.size(), "PID");
  d.note(string(call) + '\t' + path);
  bool is_meant = d.fault.path == "*" ? changes_disk(call) : call == d.fault.call && path == d.fault.path;
  if (!is_meant) return false;
  d.seen++;
  if (d.seen < d.fault.from || d.seen > d.fault.until) return false;
  errno = d.fault.error;
  return true;
}

void record(const string& line) {
  int before = errno;
  if (!disk().faults) disk().note(line);
  errno = before;
}

string hex(const void* data, size_t size) {
  static const char digits[] = "0123456789abcdef";
  string text;
  text.reserve(2 * size);
  for (size_t i = 0; i < size; i++) {
    unsigned char byte = static_cast<const unsigned char*>(data)[i];
    text += digits[byte >> 4];
    text += digits[byte & 15];
  }
  return text;
}

template <class Open>
int open_with(Open* call, const char* path, int flags, mode_t mode) {
  std::lock_guard lock(mutex);
  string at = below(path);
  if (fails((flags & O_ACCMODE) == O_RDONLY ? "open" : "create", at)) return -1;
  int fd = call(path, flags, mode);
  if (fd < 0 || at.empty()) return fd;
  struct stat is;
  if (fstat(fd, &is) != 0) return fd;
  opened[fd] = {at, is.st_dev, is.st_ino};
  bool changes = (flags & O_ACCMODE) != O_RDONLY;
  record("open\t" + std::to_string(fd) + '\t' + at + '\t' + (changes && (flags & O_CREAT) ? "c" : "") +
         (changes && (flags & O_TRUNC) ? "t" : "") + (flags & O_APPEND ? "a" : ""));
  return fd;
}

// `offset` < 0: where the file stands.
template <class Write>
ssize_t write_with(int fd, const iovec* parts, int count, off_t offset, Write call) {
  std::lock_guard lock(mutex);
  string at = path_of(fd);
  if (fails("write", at)) return -1;
  ssize_t done = call();
  if (done <= 0 || disk().log < 0 || (at.empty() && fd != 1)) return done;
  string data;
  size_t left = size_t(done);
  for (int i = 0; i < count && left > 0; i++) {
    size_t size = std::min(left, parts[i].iov_len);
    data += hex(parts[i].iov_base, size);
    left -= size;
  }
  record(at.empty() ? "say\t" + data : "write\t" + std::to_string(fd) + '\t' + std::to_string(offset) + '\t' + data);
  return done;
}

template <class Call>
auto on_path(const char* name, const char* path, bool changes, Call call) {
  std::lock_guard lock(mutex);
  string at = below(path);
  if (fails(name, at)) return decltype(call())(-1);
  auto result = call();
  if (result >= 0 && changes && !at.empty()) record(string(name) + '\t' + at);
  return result;
}

template <class Call>
int on_two(const char* name, const char* from, const char* to, Call call) {
  std::lock_guard lock(mutex);
  string source = below(from), target = below(to);
  if (fails(name, source)) return -1;
  int result = call();
  if (result == 0 && !target.empty()) record(string(name) + '\t' + source + '\t' + target);
  return result;
}

template <class Call>
auto on_file(const char* name, int fd, const string& rest, bool changes, Call call) {
  std::lock_guard lock(mutex);
  string at = path_of(fd);
  if (fails(name, at)) return decltype(call())(-1);
  auto result = call();
  if (result >= 0 && changes && !at.empty()) record(string(name) + '\t' + std::to_string(fd) + rest);
  return result;
}

mode_t mode_of(int flags, va_list more) { return flags & O_CREAT ? mode_t(va_arg(more, int)) : 0; }

}  // namespace

extern "C" {

int open(const char* path, int flags, ...) {
  va_list more;
  va_start(more, flags);
  mode_t mode = mode_of(flags, more);
  va_end(more);
  REAL(open);
  return open_with(call, path, flags, mode);
}

int open64(const char* path, int flags, ...) {
  va_list more;
  va_start(more, flags);
  mode_t mode = mode_of(flags, more);
  va_end(more);
  REAL(open64);
  return open_with(call, path, flags, mode);
}

ssize_t write(int fd, const void* data, size_t size) {
  REAL(write);
  iovec part{const_cast<void*>(data), size};
  return write_with(fd, &part, 1, -1, [&] { return call(fd, data, size); });
}

ssize_t writev(int fd, const iovec* parts, int count) {
  REAL(writev);
  return write_with(fd, parts, count, -1, [&] { return call(fd, parts, count); });
}

ssize_t pwrite64(int fd, const void* data, size_t size, off64_t offset) {
  REAL(pwrite64);
  iovec part{const_cast<void*>(data), size};
  return write_with(fd, &part, 1, offset, [&] { return call(fd, data, size, offset); });
}

ssize_t pwrite(int fd, const void* data, size_t size, off_t offset) { return pwrite64(fd, data, size, offset); }

ssize_t read(int fd, void* data, size_t size) {
  REAL(read);
  return on_file("read", fd, "", false, [&] { return call(fd, data, size); });
}

ssize_t pread64(int fd, void* data, size_t size, off64_t offset) {
  REAL(pread64);
  return on_file("read", fd, "", false, [&] { return call(fd, data, size, offset); });
}

ssize_t pread(int fd, void* data, size_t size, off_t offset) { return pread64(fd, data, size, offset); }

int fsync(int fd) {
  REAL(fsync);
  return on_file("fsync", fd, "", true, [&] { return call(fd); });
}

int fdatasync(int fd) {
  REAL(fdatasync);
  return on_file("fsync", fd, "", true, [&] { return call(fd); });
}

int ftruncate64(int fd, off64_t size) {
  REAL(ftruncate64);
  return on_file("ftruncate", fd, '\t' + std::to_string(size), true, [&] { return call(fd, size); });
}

int ftruncate(int fd, off_t size) { return ftruncate64(fd, size); }

int unlink(const char* path) {
  REAL(unlink);
  return on_path("unlink", path, true, [&] { return call(path); });
}

int rmdir(const char* path) {
  REAL(rmdir);
  return on_path("rmdir", path, true, [&] { return call(path); });
}

int mkdir(const char* path, mode_t mode) {
  REAL(mkdir);
  return on_path("mkdir", path, true, [&] { return call(path, mode); });
}

int access(const char* path, int mode) {
  REAL(access);
  return on_path("stat", path, false, [&] { return call(path, mode); });
}

int statfs64(const char* path, struct statfs64* result) {
  REAL(statfs64);
  return on_path("statfs", path, false, [&] { return call(path, result); });
}

int statfs(const char* path, struct statfs* result) {
  REAL(statfs);
  return on_path("statfs", path, false, [&] { return call(path, result); });
}

int rename(const char* from, const char* to) {
  REAL(rename);
  return on_two("rename", from, to, [&] { return call(from, to); });
}

int link(const char* from, const char* to) {
  REAL(link);
  return on_two("link", from, to, [&] { return call(from, to); });
}

int scandir(const char* path, struct dirent*** names, int (*filter)(const struct dirent*),
            int (*compare)(const struct dirent**, const struct dirent**)) {
  REAL(scandir);
  return on_path("readdir", path, false, [&] { return call(path, names, filter, compare); });
}

int scandir64(const char* path, struct dirent64*** names, int (*filter)(const struct dirent64*),
              int (*compare)(const struct dirent64**, const struct dirent64**)) {
  REAL(scandir64);
  return on_path("readdir", path, false, [&] { return call(path, names, filter, compare); });
}

// libuv calls statx, and some others, by number.
long syscall(long number, ...) {
  REAL(syscall);
  va_list more;
  va_start(more, number);
  long a[6];
  for (long& each : a) each = va_arg(more, long);
  va_end(more);
  auto now = [&] { return call(number, a[0], a[1], a[2], a[3], a[4], a[5]); };
  if (number != SYS_statx) return now();
  const char* path = reinterpret_cast<const char*>(a[1]);
  if (path != nullptr && path[0] != 0) return on_path("stat", path, false, now);
  return on_file("fstat", int(a[0]), "", false, now);
}

int statx(int directory, const char* path, int flags, unsigned mask, struct statx* result) {
  REAL(statx);
  auto now = [&] { return call(directory, path, flags, mask, result); };
  if (path[0] != 0) return on_path("stat", path, false, now);
  return on_file("fstat", directory, "", false, now);
}
}
