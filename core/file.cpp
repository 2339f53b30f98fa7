#include "duet/core/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "duet/core/error.h"

namespace duet {
namespace {

// Closes on every path out of a scope.
struct Descriptor {
  int fd;
  ~Descriptor() {
    if (fd >= 0) ::close(fd);
  }
};

}  // namespace

std::string read_file(const std::string& path) {
  Descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  check(file.fd >= 0, "file", "cannot open ", path, ": ", std::strerror(errno));
  struct stat info {};
  check(::fstat(file.fd, &info) == 0, "file", "cannot read ", path, ": ", std::strerror(errno));
  check(!S_ISDIR(info.st_mode), "file", path, " is a directory, a file was expected");
  // One byte more than the file has, so that its end is seen without growing (and copying) the buffer.
  std::string bytes(static_cast<size_t>(info.st_size) + 1, '\0');
  size_t done = 0;
  for (;;) {
    if (done == bytes.size()) bytes.resize(done + 65536);  // pipes and files that grow
    const ssize_t n = ::read(file.fd, bytes.data() + done, bytes.size() - done);
    if (n < 0 && errno == EINTR) continue;
    check(n >= 0, "file", "cannot read ", path, ": ", std::strerror(errno));
    if (n == 0) break;
    done += static_cast<size_t>(n);
  }
  bytes.resize(done);
  return bytes;
}

void sync_path(const std::string& path) {
  Descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  check(file.fd >= 0 && ::fsync(file.fd) == 0, "file", "cannot flush ", path, ": ", std::strerror(errno));
}

MappedFile::MappedFile(const std::string& path) {
  // Without O_NONBLOCK a pipe would wait for a writer before it can be refused.
  const Descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
  check(file.fd >= 0, "file", "cannot open ", path, ": ", std::strerror(errno));
  struct stat info {};
  check(::fstat(file.fd, &info) == 0, "file", "cannot read ", path, ": ", std::strerror(errno));
  check(!S_ISDIR(info.st_mode), "file", path, " is a directory, a file was expected");
  check(S_ISREG(info.st_mode), "file", path, " is no regular file");
  if (info.st_size == 0) return;  // an empty mapping is an error to the system
  size_ = static_cast<size_t>(info.st_size);
  void* data = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file.fd, 0);
  check(data != MAP_FAILED, "file", "cannot map ", path, ": ", std::strerror(errno));
  data_ = static_cast<const char*>(data);
}

MappedFile::~MappedFile() {
  if (data_) ::munmap(const_cast<char*>(data_), size_);
}

AtomicFile::AtomicFile(const std::string& path) : path_(path) {
  // A link stays and what it points to is replaced; a directory, pipe or device is not ours to replace.
  std::error_code error;
  if (std::filesystem::is_symlink(path_, error)) path_ = std::filesystem::weakly_canonical(path_, error).string();
  struct stat info {};
  if (::stat(path_.c_str(), &info) == 0)
    check(S_ISREG(info.st_mode), "file", "cannot write ", path, ": it is ",
          S_ISDIR(info.st_mode) ? "a directory" : "no regular file");
  temporary_ = path_ + ".tmp-" + std::to_string(::getpid());
  ::unlink(temporary_.c_str());  // of a process that was killed and had our number
  fd_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
  if (fd_ < 0) fail_with(errno);
}

AtomicFile::~AtomicFile() {
  if (fd_ < 0) return;
  ::close(fd_);
  ::unlink(temporary_.c_str());
}

void AtomicFile::fail_with(int reason) {
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
  ::unlink(temporary_.c_str());
  fail("file", "cannot write ", path_, ": ", std::strerror(reason));
}

void AtomicFile::write(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::write(fd_, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail_with(errno);
    bytes.remove_prefix(static_cast<size_t>(n));
  }
}

void AtomicFile::commit(bool flush) {
  if (flush && ::fsync(fd_) != 0) fail_with(errno);
  // Some file systems report a failed write only here.
  const int closed = ::close(fd_);
  fd_ = -1;
  if (closed != 0 || ::rename(temporary_.c_str(), path_.c_str()) != 0) fail_with(errno);
  if (!flush) return;
  const auto parent = std::filesystem::path(path_).parent_path();
  sync_path(parent.empty() ? "." : parent.string());
}

void write_file_atomically(const std::string& path, std::string_view bytes, bool flush) {
  AtomicFile file(path);
  file.write(bytes);
  file.commit(flush);
}

void remove_temporaries(const std::string& directory) {
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    const std::string name = entry.path().filename().string(), mark = ".tmp-";
    const size_t at = name.rfind(mark);
    if (at == std::string::npos || at == 0 || at + mark.size() == name.size() ||
        name.find_first_not_of("0123456789", at + mark.size()) != std::string::npos)
      continue;
    std::error_code ignored;
    std::filesystem::remove_all(entry.path(), ignored);
  }
}

void make_directories(const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  check(!error && std::filesystem::is_directory(path), "file", "cannot create directory ", path, ": ",
        error ? error.message() : "a file of that name is in the way");
}

}  // namespace duet
