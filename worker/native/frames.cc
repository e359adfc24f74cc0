#include "worker/native/frames.h"

#include <dlfcn.h>
#include <elf.h>
#include <execinfo.h>
#include <fcntl.h>
#include <link.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <ucontext.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <string_view>

#include "common/base/unique_fd.h"

// Everything here but frames_of_one_thread() runs in a signal handler: system calls and memory, no
// allocation, no lock but the loader's, which dladdr() takes.

namespace mgr::native {
namespace {

constexpr int kMostFrames = 100;

// A file in memory, while this lives.
class MappedFile {
 public:
  explicit MappedFile(const char* path) {
    const UniqueFd file(::open(path, O_RDONLY | O_CLOEXEC));
    struct stat info {};
    if (!file || ::fstat(file.get(), &info) != 0 || !S_ISREG(info.st_mode)) return;
    void* mapped = ::mmap(nullptr, static_cast<std::size_t>(info.st_size), PROT_READ, MAP_PRIVATE,
                          file.get(), 0);
    if (mapped == MAP_FAILED) return;
    data_ = static_cast<const char*>(mapped);
    size_ = static_cast<std::size_t>(info.st_size);
  }
  ~MappedFile() {
    if (data_) ::munmap(const_cast<char*>(data_), size_);
  }
  MappedFile(const MappedFile&) = delete;

  // `count` objects from `offset` on; null where the file does not have them.
  template <typename T>
  const T* at(std::uint64_t offset, std::uint64_t count = 1) const {
    if (offset > size_ || count > (size_ - offset) / sizeof(T)) return nullptr;
    return reinterpret_cast<const T*>(data_ + offset);
  }

 private:
  const char* data_ = nullptr;
  std::size_t size_ = 0;
};

struct Symbol {
  std::string_view name;
  std::uint64_t offset = 0;  // of the address in the function
};

// The function of a symbol table (.symtab) that holds `address`, as the file counts addresses.
bool find_symbol(const MappedFile& file, std::uint64_t address, Symbol& found) {
  const auto* header = file.at<ElfW(Ehdr)>(0);
  if (!header || std::memcmp(header->e_ident, ELFMAG, SELFMAG) != 0) return false;
  const auto* sections = file.at<ElfW(Shdr)>(header->e_shoff, header->e_shnum);
  if (!sections) return false;
  for (int i = 0; i < header->e_shnum; ++i) {
    const auto& table = sections[i];
    if (table.sh_type != SHT_SYMTAB || table.sh_link >= header->e_shnum) continue;
    const auto& names = sections[table.sh_link];
    const std::uint64_t count = table.sh_size / sizeof(ElfW(Sym));
    const auto* symbols = file.at<ElfW(Sym)>(table.sh_offset, count);
    const char* text = file.at<char>(names.sh_offset, names.sh_size);
    if (!symbols || !text) return false;
    for (std::uint64_t k = 0; k < count; ++k) {
      const auto& symbol = symbols[k];
      if ((symbol.st_info & 0xf) != STT_FUNC || symbol.st_shndx == SHN_UNDEF) continue;
      if (address < symbol.st_value || address - symbol.st_value >= symbol.st_size) continue;
      if (symbol.st_name >= names.sh_size) return false;
      const char* name = text + symbol.st_name;
      found = {{name, ::strnlen(name, names.sh_size - symbol.st_name)}, address - symbol.st_value};
      return true;
    }
  }
  return false;
}

class Line {
 public:
  Line& text(std::string_view text) {
    for (const char c : text) {
      if (size_ + 1 < sizeof text_) text_[size_++] = c >= ' ' && c <= '~' ? c : '?';
    }
    return *this;
  }
  Line& number(std::uint64_t value, unsigned base) {
    char digits[24];
    std::size_t at = sizeof digits;
    do {
      digits[--at] = "0123456789abcdef"[value % base];
      value /= base;
    } while (value > 0);
    return text({digits + at, sizeof digits - at});
  }
  void write(int fd) {
    text_[size_++] = '\n';
    (void)!::write(fd, text_, size_);
  }

 private:
  char text_[2048];
  std::size_t size_ = 0;
};

std::string_view file_name(std::string_view path) {
  return path.substr(path.rfind('/') + 1);
}

// What the file that a library was loaded from is called: ours are private copies without a path.
std::string_view name_of(const char* path, char (&link)[256]) {
  const ssize_t size = ::readlink(path, link, sizeof link);
  std::string_view name = size > 0 ? std::string_view(link, static_cast<std::size_t>(size)) : path;
  constexpr std::string_view kDeleted = " (deleted)";
  if (name.ends_with(kDeleted)) name.remove_suffix(kDeleted.size());
  name = file_name(name);
  constexpr std::string_view kMemory = "memfd:";
  if (name.starts_with(kMemory)) name.remove_prefix(kMemory.size());
  return name;
}

// `address` of all but the most recent frame is the one behind the call.
void write_frame(int fd, int number, const void* address, bool is_return) {
  Line line;
  line.text("  #").number(static_cast<unsigned>(number), 10).text(" ");
  const auto where = reinterpret_cast<std::uintptr_t>(address);
  const auto looked_up = where - (is_return ? 1 : 0);
  Dl_info info{};
  if (::dladdr(reinterpret_cast<const void*>(looked_up), &info) == 0 || !info.dli_fname) {
    return line.text("0x").number(where, 16).write(fd);
  }
  // The program itself has the name that it was called by.
  const auto* header = static_cast<const ElfW(Ehdr)*>(info.dli_fbase);
  const bool program = info.dli_fname[0] != '/';
  const bool fixed = header->e_type == ET_EXEC;
  const char* path = program ? "/proc/self/exe" : info.dli_fname;
  const std::uint64_t base = fixed ? 0 : reinterpret_cast<std::uintptr_t>(info.dli_fbase);
  const MappedFile file(path);
  Symbol symbol;
  char link[256];
  if (find_symbol(file, looked_up - base, symbol)) {
    line.text(symbol.name).text("+0x").number(symbol.offset + (is_return ? 1 : 0), 16);
  } else if (info.dli_sname) {
    line.text(info.dli_sname).text("+0x");
    line.number(where - reinterpret_cast<std::uintptr_t>(info.dli_saddr), 16);
  } else {
    line.text("+0x").number(where - base, 16);
  }
  line.text(" (").text(name_of(path, link)).text(")").write(fd);
}

// Where the thread was when the signal came; null where we don't know this machine.
const void* interrupted_at(const void* context) {
#if defined(__x86_64__)
  const auto& registers = static_cast<const ucontext_t*>(context)->uc_mcontext.gregs;
  return reinterpret_cast<const void*>(registers[REG_RIP]);
#elif defined(__aarch64__)
  return reinterpret_cast<const void*>(static_cast<const ucontext_t*>(context)->uc_mcontext.pc);
#else
  (void)context;
  return nullptr;
#endif
}

void write_frames(int pipe, int, const void* context) {
  void* frames[kMostFrames];
  const int count = ::backtrace(frames, kMostFrames);
  // The handler's own frames are left out.
  const void* interrupted = interrupted_at(context);
  int first = 0;
  while (first < count && frames[first] != interrupted) ++first;
  if (first == count) first = 0;
  for (int i = first; i < count; ++i) write_frame(pipe, i - first, frames[i], i > first);
}

}  // namespace

worker::Stacks::Frames frames_of_one_thread() {
  void* frame[1];
  ::backtrace(frame, 1);  // its first call loads a library, which a handler must not do
  worker::Stacks::Frames frames;
  frames.write = write_frames;
  frames.one_thread = true;
  return frames;
}

}  // namespace mgr::native
