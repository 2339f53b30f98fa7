// Names and kinds of this program's addresses, from its own ELF file.
#include <cxxabi.h>
#include <elf.h>
#include <link.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <map>
#include <memory>
#include <vector>

#include "duet/core/error.h"
#include "duet/tests/emulation/scheduler.h"

namespace duet::emulation {

namespace {

struct Range {
  uintptr_t begin, end;
  bool contains(uintptr_t address, size_t bytes) const { return begin <= address && address + bytes <= end; }
};

struct Program {
  uintptr_t base = 0;
  Range writable{};
  std::vector<Range> constant;  // of all loaded objects
};

int visit(dl_phdr_info* info, size_t, void* data) {
  auto& program = *static_cast<Program*>(data);
  const bool main = program.constant.empty();  // the program itself comes first
  if (main) program.base = info->dlpi_addr;
  uintptr_t relocated_end = 0;
  for (int i = 0; i < info->dlpi_phnum; i++) {
    const ElfW(Phdr)& header = info->dlpi_phdr[i];
    const Range range{info->dlpi_addr + header.p_vaddr, info->dlpi_addr + header.p_vaddr + header.p_memsz};
    if (header.p_type == PT_GNU_RELRO || (header.p_type == PT_LOAD && !(header.p_flags & PF_W))) {
      program.constant.push_back(range);
      if (header.p_type == PT_GNU_RELRO) relocated_end = range.end;
    } else if (header.p_type == PT_LOAD && main) {
      program.writable = range;
    }
  }
  if (main && program.writable.contains(relocated_end, 0)) program.writable.begin = relocated_end;
  return 0;
}

const Program& program() {
  static const Program& instance = []() -> const Program& {
    auto* result = new Program;
    dl_iterate_phdr(visit, result);
    return *result;
  }();
  return instance;
}

struct Symbol {
  size_t size;
  std::string name;
};

// Functions and variables by address.
const std::map<uintptr_t, Symbol>& symbols() {
  static const auto& instance = []() -> const std::map<uintptr_t, Symbol>& {
    auto* result = new std::map<uintptr_t, Symbol>;
    std::ifstream file("/proc/self/exe", std::ios::binary);
    const std::vector<char> bytes{std::istreambuf_iterator<char>(file), {}};
    const auto* header = reinterpret_cast<const ElfW(Ehdr)*>(bytes.data());
    if (bytes.size() < sizeof(*header)) return *result;
    const auto* sections = reinterpret_cast<const ElfW(Shdr)*>(bytes.data() + header->e_shoff);
    for (int i = 0; i < header->e_shnum; i++) {
      if (sections[i].sh_type != SHT_SYMTAB) continue;
      const auto* table = reinterpret_cast<const ElfW(Sym)*>(bytes.data() + sections[i].sh_offset);
      const char* names = bytes.data() + sections[sections[i].sh_link].sh_offset;
      for (size_t j = 0; j < sections[i].sh_size / sizeof(*table); j++) {
        const int type = table[j].st_info & 15;
        if (table[j].st_size == 0 || (type != STT_FUNC && type != STT_OBJECT)) continue;
        (*result)[program().base + table[j].st_value] = {table[j].st_size, names + table[j].st_name};
      }
    }
    return *result;
  }();
  return instance;
}

}  // namespace

std::string symbol_name(uintptr_t address) {
  const auto next = symbols().upper_bound(address);
  if (next == symbols().begin()) return "";
  const auto& [begin, symbol] = *std::prev(next);
  if (address - begin >= symbol.size) return "";
  int status = 0;
  const std::unique_ptr<char, void (*)(void*)> readable(
      abi::__cxa_demangle(symbol.name.c_str(), nullptr, nullptr, &status), std::free);
  const std::string name = status == 0 ? readable.get() : symbol.name;
  return address == begin ? name : text(name, " (byte ", address - begin, " of ", symbol.size, ")");
}

StaticDataRange static_data() {
  return {program().writable.begin & ~uintptr_t{3}, program().writable.end};
}

bool in_constant_data(uintptr_t address, size_t bytes) {
  for (const Range& range : program().constant) {
    if (range.contains(address, bytes)) return true;
  }
  return false;
}

}  // namespace duet::emulation
