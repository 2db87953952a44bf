#include "base/file_kind.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdint>
#include <cstring>
#include <vector>

#include "base/error.h"

namespace pq {
namespace {

namespace fs = std::filesystem;
using namespace std::string_view_literals;

/// Small texts that stand where a program has not put the file itself.
struct Pointer {
  std::string_view start;
  std::string_view what;
  std::string_view remedy;
};
constexpr std::array pointers{
    Pointer{"version https://git-lfs.github.com/spec/",
            "is a Git LFS pointer, not the file itself (the repository was cloned without git-lfs)", "git lfs pull"},
    Pointer{"# xet version", "is a Xet pointer, not the file itself (the repository was cloned without git-xet)",
            "git xet checkout"},
    Pointer{"/annex/objects/", "is a git-annex pointer, not the file itself", "git annex get ."},
};
/// How the hub answers instead of a file.
constexpr std::array<std::string_view, 6> refusals{
    "Entry not found",  "Repository not found", "Invalid username or password",
    "Access to model ", "Invalid credentials",  "{\"error\""};
constexpr std::string_view unpack = "unpack it first";
constexpr std::string_view to_text = "export it as .txt, or as .jsonl with a `text` field on each line";
constexpr std::string_view safe_format = "get the model in safetensors, or convert it";

struct Magic {
  std::string_view start;
  std::string_view what;
  std::string_view remedy;
  std::size_t offset = 0;
};

constexpr std::array magics{
    Magic{"PK\x03\x04"sv, "a zip archive (as PyTorch's pickled checkpoints, .npz and .docx are)",
          "unpack it, or get the model in safetensors"},
    Magic{"PAR1"sv, "a Parquet file", to_text},
    Magic{"ARROW1"sv, "an Arrow file", to_text},
    Magic{"FEA1"sv, "a Feather file", to_text},
    Magic{"\xff\xff\xff\xff"sv, "an Arrow stream", to_text},
    Magic{"Obj\x01"sv, "an Avro file", to_text},
    Magic{"ORC"sv, "an ORC file", to_text},
    Magic{"SQLite format 3\0"sv, "an SQLite database", to_text},
    Magic{"\x89HDF\r\n\x1a\n"sv, "an HDF5 file", safe_format},
    Magic{"\x93NUMPY"sv, "a NumPy array", safe_format},
    Magic{"\x28\xb5\x2f\xfd"sv, "compressed with zstd", "decompress it first: unzstd FILE"},
    Magic{"\xfd\x37zXZ\0"sv, "compressed with xz", "decompress it first: unxz FILE"},
    Magic{"BZh"sv, "compressed with bzip2", "decompress it first: bunzip2 FILE"},
    Magic{"\x04\x22\x4d\x18"sv, "compressed with lz4", "decompress it first: unlz4 FILE"},
    Magic{"\x1f\x8b"sv, "compressed with gzip", "decompress it first: gunzip FILE"},
    Magic{"7z\xbc\xaf\x27\x1c"sv, "a 7z archive", unpack},
    Magic{"Rar!\x1a\x07"sv, "a RAR archive", unpack},
    Magic{"ustar"sv, "a tar archive", unpack, 257},
    Magic{"%PDF-"sv, "a PDF document", to_text},
    Magic{"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"sv, "a document of Microsoft Office", to_text},
    Magic{"\x89PNG"sv, "a PNG image", "name another file"},
    Magic{"\xff\xd8\xff"sv, "a JPEG image", "name another file"},
    Magic{"\x7f"
          "ELF"sv,
          "a program", "name another file"},
    Magic{"GGUF"sv, "a GGUF model", "name it as the MODEL"},
    Magic{"lmgg"sv, "a model in GGML's old format", "get the model as GGUF or in safetensors"},
    Magic{"tjgg"sv, "a model in GGML's old format", "get the model as GGUF or in safetensors"},
    Magic{"\xff\xfe"sv, "text in UTF-16", "convert it: iconv -f UTF-16 -t UTF-8"},
    Magic{"\xfe\xff"sv, "text in UTF-16", "convert it: iconv -f UTF-16 -t UTF-8"},
};

bool is_safetensors(std::string_view start) {
  std::uint64_t header = 0;
  if (start.size() < sizeof(header) + 1) return false;
  std::memcpy(&header, start.data(), sizeof(header));
  return header < 100'000'001 && start[sizeof(header)] == '{';
}

/// torch.save of old, and Python's pickle: protocols 2 to 5.
/// Not the length of a header of safetensors, whose last bytes are zero.
bool is_pickle(std::string_view start) {
  return start.size() > 1 && start[0] == '\x80' && start[1] >= 2 && start[1] <= 5 &&
         start.substr(std::min<std::size_t>(4, start.size()), 4) != "\0\0\0\0"sv;
}

/// Text of mostly ASCII in UTF-16 without a mark: every second byte is zero.
bool is_unmarked_utf16(std::string_view start) {
  constexpr std::size_t fewest = 8;
  std::array<std::size_t, 2> zeros{};
  for (std::size_t i = 0; i < start.size(); ++i) zeros[i % 2] += start[i] == '\0' ? 1 : 0;
  const std::size_t most = std::max(zeros[0], zeros[1]);
  return start.size() >= fewest && most * 20 >= start.size() / 2 * 19 && std::min(zeros[0], zeros[1]) * 20 < most;
}

bool is_web_page(std::string_view start) {
  std::string head(start.substr(0, 64));
  std::transform(head.begin(), head.end(), head.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  const auto first = head.find_first_not_of(" \t\r\n");
  if (first == std::string::npos) return false;
  const auto body = std::string_view(head).substr(first);
  return body.starts_with("<!doctype") || body.starts_with("<html") || body.starts_with("<?xml");
}

/// No byte that texts in UTF-8 do not have.
bool reads_as_text(std::string_view start) {
  return std::none_of(start.begin(), start.end(), [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return (byte < 0x20 && std::string_view("\t\n\v\f\r\x1b").find(c) == std::string_view::npos) || byte >= 0xf8 ||
           byte == 0xc0 || byte == 0xc1;
  });
}

constexpr std::array<std::string_view, 5> unfinished_endings{".incomplete", ".part", ".partial", ".crdownload",
                                                             ".aria2"};

bool is_unfinished(std::string_view name) {
  return std::any_of(unfinished_endings.begin(), unfinished_endings.end(),
                     [&](std::string_view ending) { return name.ends_with(ending); });
}

/// Of a link inside the cache: its target's download, where that has not ended.
std::optional<fs::path> unfinished_target(const fs::path& target) {
  for (const std::string_view ending : unfinished_endings) {
    fs::path part = target;
    part += ending;
    std::error_code code;
    if (fs::exists(part, code)) return part;
  }
  return std::nullopt;
}

[[noreturn]] void refuse(const fs::path& path, std::string_view what, std::string_view remedy) {
  throw InputError(path.string(), what, remedy);
}

}  // namespace

void check_file_kind(const fs::path& path, std::span<const std::byte> bytes, FileKind expected) {
  constexpr std::size_t looked_at = 512;
  const std::string_view start(reinterpret_cast<const char*>(bytes.data()), std::min(bytes.size(), looked_at));
  if (start.empty()) {
    if (expected == FileKind::text) return;
    refuse(path, "is empty", how_to_download(path));
  }
  for (const Pointer& pointer : pointers) {
    if (!start.starts_with(pointer.start)) continue;
    refuse(path, pointer.what,
           fmt::format("run `{}` in {}, or {}", pointer.remedy,
                       path.has_parent_path() ? path.parent_path().string() : "its directory", how_to_download(path)));
  }
  const bool refused =
      std::any_of(refusals.begin(), refusals.end(), [&](std::string_view text) { return start.starts_with(text); });
  if (expected != FileKind::text && (refused || is_web_page(start))) {
    refuse(path,
           fmt::format("is {}, not the file itself (the download was refused, or asks for a login)",
                       refused ? "an error message" : "a web page"),
           fmt::format("{}, after `hf auth login` where the model asks for it", how_to_download(path)));
  }
  if (expected != FileKind::text && start.find_first_not_of('\0') == std::string_view::npos) {
    refuse(path, "begins with nothing but zeros, as a file does whose download or copy did not end",
           how_to_download(path));
  }
  if (expected == FileKind::text && reads_as_text(start)) return;
  if (expected == FileKind::safetensors && is_safetensors(start)) return;
  const std::string_view wanted = expected == FileKind::safetensors ? "a safetensors file"
                                  : expected == FileKind::gguf      ? "a GGUF file"
                                  : expected == FileKind::json      ? "JSON"
                                                                    : "plain text";
  const auto is = [&](std::string_view what, std::string_view remedy) {
    refuse(path, fmt::format("is {}, not {}", what, wanted), remedy);
  };
  if (expected != FileKind::safetensors && is_safetensors(start))
    is("a safetensors file", "name the model's directory");
  const bool is_text = expected == FileKind::text || expected == FileKind::json;
  if (is_text && is_unmarked_utf16(start)) is("text in UTF-16", "convert it: iconv -f UTF-16LE -t UTF-8");
  if (is_pickle(start)) is("a Python pickle (a PyTorch checkpoint)", safe_format);
  for (const Magic& magic : magics) {
    if (start.size() < magic.offset || !start.substr(magic.offset).starts_with(magic.start)) continue;
    if (expected == FileKind::gguf && magic.start == "GGUF") continue;
    is(magic.what, magic.remedy);
  }
}

bool exists_or_dangles(const fs::path& path) {
  std::error_code code;
  return fs::exists(fs::symlink_status(path, code));
}

void refuse_missing(const fs::path& path) {
  if (path.empty()) throw InputError("a file", "its name is empty", "name a file");
  std::error_code code;
  if (fs::is_symlink(path, code)) {
    fs::path target = fs::read_symlink(path, code);
    if (target.is_relative()) target = (path.parent_path() / target).lexically_normal();
    if (const auto part = unfinished_target(target)) {
      refuse(path, fmt::format("its download is incomplete ({} is there)", part->filename().string()),
             how_to_download(path));
    }
    refuse(path,
           fmt::format("is a link to {}, which is not there (a cache that was cleaned or copied in part)",
                       target.string()),
           how_to_download(path));
  }
  if (const auto part = unfinished_download(path.parent_path(), path.filename().string())) {
    refuse(path, fmt::format("its download is incomplete ({} is there)", part->string()), how_to_download(path));
  }
  refuse(path, "no such file", path == "-" ? "name /dev/stdin to read standard input" : "check the path");
}

namespace {

/// A path inside the Hugging Face cache: ".../models--org--name/snapshots/revision/...".
struct HubPlace {
  std::string repository;
  std::string revision;  ///< empty outside a snapshot
};

std::optional<HubPlace> hub_place(const fs::path& path) {
  constexpr std::string_view start = "models--";
  std::error_code code;
  const fs::path whole = fs::absolute(path, code).lexically_normal();
  for (auto part = whole.begin(); part != whole.end(); ++part) {
    const std::string folder = part->string();
    if (!folder.starts_with(start)) continue;
    HubPlace place{folder.substr(start.size()), {}};
    const auto dashes = place.repository.find("--");
    if (dashes != std::string::npos) place.repository.replace(dashes, 2, "/");
    if (++part != whole.end() && *part == "snapshots" && ++part != whole.end()) place.revision = part->string();
    return place;
  }
  return std::nullopt;
}

}  // namespace

std::optional<std::string> hub_repository(const fs::path& path) {
  const auto place = hub_place(path);
  return place ? std::optional(place->repository) : std::nullopt;
}

std::string how_to_download(const fs::path& path) {
  const auto place = hub_place(path);
  if (!place) return "get it again, for example with: hf download org/name";
  return fmt::format("get it with: hf download {}{}", place->repository,
                     place->revision.empty() ? "" : " --revision " + place->revision);
}

std::optional<fs::path> unfinished_download(const fs::path& directory, std::string_view name) {
  const fs::path here = directory.empty() ? fs::path(".") : directory;
  std::vector<fs::path> places{here, here / ".cache" / "huggingface" / "download"};
  // The cache's parts are called by their content, so they are of any file.
  if (name.empty() && here.parent_path().filename() == "snapshots")
    places.push_back(here.parent_path().parent_path() / "blobs");
  std::vector<fs::path> found;
  for (const fs::path& place : places) {
    std::error_code code;
    for (fs::directory_iterator entry(place, code), end; !code && entry != end; entry.increment(code)) {
      const std::string file = entry->path().filename().string();
      if (is_unfinished(file) && entry->is_regular_file(code) && file.starts_with(name)) found.push_back(entry->path());
    }
  }
  if (found.empty()) return std::nullopt;
  return *std::min_element(found.begin(), found.end());
}

}  // namespace pq
