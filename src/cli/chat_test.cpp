// Runs `pq chat` itself, through pipes and on a terminal.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <fstream>
#include <iterator>
#include <string>
#include <thread>
#include <vector>

#include "base/json.h"
#include "cli/cli_for_test.h"

namespace pq {
namespace {

using testing::HasSubstr;

class Chat : public Cli {
 protected:
  Chat() {
    std::ofstream(folder_ / "plain.jinja")
        << "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:";
  }
  std::vector<std::string> chat(const std::vector<std::string>& more) const {
    std::vector<std::string> words{"chat",          sample, "--chat-template", (folder_ / "plain.jinja").string(),
                                   "--temperature", "0"};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
  /// What the user said, as the model was told it.
  static std::vector<std::string> user_texts(const Json& json) {
    std::vector<std::string> texts;
    for (const Json& message : json["messages"]) {
      if (message["role"] == "user") texts.push_back(message["content"]);
    }
    return texts;
  }
  std::vector<std::string> said(const std::string& input) const {
    const Outcome outcome = run(chat({"-n", "2", "--json", "-q"}), input);
    EXPECT_EQ(outcome.code(), 0) << outcome.error;
    return user_texts(parse_json(outcome.out, "stdout"));
  }
};

/// A `pq` on a terminal of its own, with stdout in a file.
class OnTerminal {
 public:
  OnTerminal(std::vector<std::string> words, const std::string& out) {
    words.insert(words.begin(), program);
    std::vector<char*> argv;
    std::transform(words.begin(), words.end(), std::back_inserter(argv), [](std::string& word) { return word.data(); });
    argv.push_back(nullptr);
    child_ = ::forkpty(&terminal_, nullptr, nullptr, nullptr);
    if (child_ == 0) {
      ::setenv("TERM", "xterm", 1);
      ::dup2(::open(out.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600), STDOUT_FILENO);
      ::execv(program.c_str(), argv.data());
      ::_exit(127);
    }
  }
  ~OnTerminal() { ::close(terminal_); }
  OnTerminal(const OnTerminal&) = delete;
  OnTerminal& operator=(const OnTerminal&) = delete;

  void type(const std::string& keys) const {
    EXPECT_EQ(::write(terminal_, keys.data(), keys.size()), static_cast<ssize_t>(keys.size()));
  }
  /// Reads until the terminal shows `text`.
  void wait_for(const std::string& text) {
    const std::size_t before = shown_.size();
    while (shown_.find(text, seen_) == std::string::npos && read_more()) {
    }
    const std::size_t at = shown_.find(text, seen_);
    ASSERT_NE(at, std::string::npos) << "no '" << text << "' in: " << shown_.substr(std::min(before, seen_));
    seen_ = at + text.size();
  }
  /// Waits for the end; the exit code, or the signal below zero.
  int finish() {
    while (read_more()) {
    }
    int status = 0;
    EXPECT_EQ(::waitpid(child_, &status, 0), child_);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }
  const std::string& shown() const { return shown_; }

 private:
  bool read_more() {
    pollfd waiting{terminal_, POLLIN, 0};
    if (::poll(&waiting, 1, 60'000) <= 0) return false;
    std::array<char, 4096> bytes{};
    const ssize_t got = ::read(terminal_, bytes.data(), bytes.size());
    if (got <= 0) return false;
    shown_.append(bytes.data(), static_cast<std::size_t>(got));
    return true;
  }

  int terminal_ = -1;
  pid_t child_ = -1;
  std::string shown_;
  std::size_t seen_ = 0;
};

TEST_F(Chat, LinesEndInTheWayOfEverySystem) {
  const std::vector<std::string> plain = said("Hello there\nBye\n");
  EXPECT_EQ(plain, (std::vector<std::string>{"Hello there", "Bye"}));
  EXPECT_EQ(said("Hello there\r\n\r\nBye\r\n/quit\r\nnot read\r\n"), plain);
  EXPECT_EQ(said("\xef\xbb\xbfHello there\r\nBye"), plain);
}

TEST_F(Chat, OnlyKnownCommandsAreCommands) {
  EXPECT_EQ(said("/etc/hosts is a file. Why?\n/rest\n//quit\n /quit\n// x\n/quit\nnot read\n"),
            (std::vector<std::string>{"/etc/hosts is a file. Why?", "/rest", "/quit", " /quit", "// x"}));
  const Outcome outcome = run(chat({"-n", "2"}), "/rest\n/help\n/save\nBye\n");
  EXPECT_EQ(outcome.code(), 0);
  for (const char* text : {"/rest is no command, so it is a message", "/reset ", "/save FILE", "/quit ",
                           "/save takes the name of a file", "; context "})
    EXPECT_THAT(outcome.error, HasSubstr(text));
}

TEST_F(Chat, FinishedTurnsAreShownWhateverEndsTheChat) {
  const std::string input = "Hello there\nbroken \xff\nnot read\n";
  const Outcome text = run(chat({"-n", "4", "-q"}), input);
  const Outcome json = run(chat({"-n", "4", "-q", "--json"}), input);
  for (const Outcome& outcome : {text, json}) {
    EXPECT_EQ(outcome.code(), 2);
    EXPECT_EQ(outcome.error, "error: stdin, line 2: byte 7 is not valid UTF-8; convert the text to UTF-8\n");
  }
  const Json turns = parse_json(json.out, "stdout")["turns"];
  ASSERT_EQ(turns.size(), 1U);
  EXPECT_EQ(text.out, turns[0]["text"].get<std::string>() + "\n");
}

TEST_F(Chat, ASignalEndsAPipedChatWithItsTurns) {
  for (const int signal : {SIGINT, SIGTERM}) {
    std::ofstream(folder_ / "in") << "Hello there\nnot read\n";
    const int input = ::open((folder_ / "in").c_str(), O_RDONLY | O_CLOEXEC);
    const pid_t child = start(chat({"-n", "0", "--context", "100000", "--ignore-eos", "--json"}), input);
    ::close(input);
    std::this_thread::sleep_for(std::chrono::seconds(2));
    ::kill(child, signal);
    const Outcome outcome = finish(child);
    EXPECT_EQ(outcome.code(), 128 + signal) << outcome.error;
    const Json turns = parse_json(outcome.out, "stdout")["turns"];
    ASSERT_EQ(turns.size(), 1U);
    EXPECT_EQ(turns[0]["stop_reason"], "interrupted");
  }
}

TEST_F(Chat, APasteIsOneMessageOnATerminal) {
  const std::string out = (folder_ / "out.json").string();
  OnTerminal terminal(chat({"-n", "2", "--json"}), out);
  terminal.wait_for("\033[?2004h");
  terminal.wait_for("/help shows the commands");
  terminal.wait_for("> ");
  terminal.type("\033[200~one\r\n/quit\r\nthree\033[201~\r");
  terminal.wait_for("; context ");
  terminal.type("caf\xc3\xa9\x7f\xc3\xa9 \xe6\x97\xa5\xe6\x9c\xac\x7f\r");
  terminal.wait_for("; context ");
  terminal.type("/help\r");
  terminal.wait_for("/save FILE");
  terminal.type("\x04");
  EXPECT_EQ(terminal.finish(), 0) << terminal.shown();
  EXPECT_THAT(terminal.shown(), testing::EndsWith("\033[?2004l"));
  EXPECT_EQ(user_texts(read_json_file(out)), (std::vector<std::string>{"one\n/quit\nthree", "café 日"}));
}

TEST_F(Chat, CtrlCEndsTheAnswerAndTwiceTheChat) {
  const std::string out = (folder_ / "out.json").string();
  OnTerminal terminal(chat({"-n", "0", "--context", "100000", "--ignore-eos", "--json"}), out);
  terminal.wait_for("> ");
  terminal.type("half a line\x03");
  terminal.wait_for("\r\n");
  terminal.type("Hello\r");
  std::this_thread::sleep_for(std::chrono::seconds(1));
  terminal.type("\x03");
  terminal.wait_for("(interrupted)");
  terminal.type("\x03");
  EXPECT_EQ(terminal.finish(), 130) << terminal.shown();
  const Json json = read_json_file(out);
  EXPECT_EQ(user_texts(json), (std::vector<std::string>{"Hello"}));
  EXPECT_EQ(json["turns"][0]["stop_reason"], "interrupted");
}

TEST_F(Chat, SaysWhatIsWrongWithAMessageAndGoesOnOnATerminal) {
  OnTerminal terminal(chat({"-n", "2", "--context", "12", "--json"}), (folder_ / "out.json").string());
  terminal.wait_for("> ");
  terminal.type("one two three four five six seven eight nine\r");
  terminal.wait_for("but the context holds 12");
  terminal.type("Hi\r");
  terminal.wait_for("; context ");
  terminal.wait_for("> ");
  terminal.type("\x03");
  terminal.wait_for("Ctrl-C again");
  terminal.wait_for("> ");
  terminal.type("\x03");
  EXPECT_EQ(terminal.finish(), 130);
  EXPECT_EQ(user_texts(read_json_file(folder_ / "out.json")), (std::vector<std::string>{"Hi"}));
}

}  // namespace
}  // namespace pq
