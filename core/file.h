#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace duet {

// The whole file as bytes. Throws Error naming the file and the operating system's reason.
std::string read_file(const std::string& path);

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
