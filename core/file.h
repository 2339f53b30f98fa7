#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace duet {

// Whether the bytes are what Git LFS leaves in place of a large file that was not fetched.
inline bool is_lfs_pointer(std::string_view bytes) {
  return bytes.starts_with("version https://git-lfs");
}

// The whole file as bytes. Throws Error naming the file and the operating system's reason.
std::string read_file(const std::string& path);

// A regular file's bytes, mapped read-only: pages come from the page cache when they are touched, and no copy is held.
// Whoever replaces such a file must write a new one and rename it, as AtomicFile does; one that is cut short in place
// while it is mapped cannot be read.
class MappedFile {
 public:
  explicit MappedFile(const std::string& path);  // throws Error naming the file and the reason
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  std::string_view bytes() const { return {data_, size_}; }

 private:
  const char* data_ = nullptr;
  size_t size_ = 0;
};

// Writes beside the target, a regular file or none yet; `commit` fsyncs, renames, and fsyncs the directory. Without
// commit, or when a write fails, the target stays as it was and what was written is removed.
class AtomicFile {
 public:
  explicit AtomicFile(const std::string& path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  void write(std::string_view bytes);
  void commit(bool flush = true);  // `flush` as in write_file_atomically

 private:
  [[noreturn]] void fail_with(int reason);

  std::string path_, temporary_;
  int fd_ = -1;
};

// Writes beside the target, fsyncs, renames, and fsyncs the directory: after a crash at any moment the target holds
// either its old or its new content, whole. Throws Error naming the file and the reason (a full disk, say).
// Without `flush` that holds for a crash of the program only, not of the machine: for thousands of small files that can
// be made again, followed by one sync of the whole.
void write_file_atomically(const std::string& path, std::string_view bytes, bool flush = true);

// Removes what a killed process was writing with write_file_atomically, or under a name of the same form, directly in
// `directory`.
void remove_temporaries(const std::string& directory);

// Flushes a file or directory to the disk.
void sync_path(const std::string& path);

// Creates the directory and its parents; throws Error naming what is in the way.
void make_directories(const std::string& path);

}  // namespace duet
