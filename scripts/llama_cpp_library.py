"""llama.cpp's C API by ctypes, from whichever package has a library of it: llama-cpp-python, llama-cpp-py-sync, or xllamacpp; the wheels of the last two need no compiler, and xllamacpp's has no llama_model_quantize.

The big structs of parameters change from version to version. They are only passed through here: by value such a struct lies on the stack, so that one of more bytes than it has is as good, and the fields that are set are its
first ones, or found by their defaults."""
import collections
import ctypes
import importlib.util
import pathlib

import numpy as np

# llama_ftype of llama.h
FILE_TYPES = {"F16": 1, "Q4_0": 2, "Q4_1": 3, "Q8_0": 7, "Q4_K_M": 15}


class Parameters(ctypes.Structure):
    _fields_ = [("words", ctypes.c_int32 * 256)]


class Batch(ctypes.Structure):
    _fields_ = [("count", ctypes.c_int32), ("tokens", ctypes.POINTER(ctypes.c_int32)), ("embeddings", ctypes.c_void_p), ("positions", ctypes.POINTER(ctypes.c_int32)),
                ("sequence_counts", ctypes.POINTER(ctypes.c_int32)), ("sequences", ctypes.POINTER(ctypes.POINTER(ctypes.c_int32))), ("wanted", ctypes.POINTER(ctypes.c_int8))]


LOG_CALLBACK = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
POINTER, INT, SIZE, BOOL, TEXT, INTS = ctypes.c_void_p, ctypes.c_int32, ctypes.c_size_t, ctypes.c_bool, ctypes.c_char_p, ctypes.POINTER(ctypes.c_int32)
FUNCTIONS = {  # result, arguments
    "llama_backend_init": (None, []),
    "llama_log_set": (None, [LOG_CALLBACK, POINTER]),
    "llama_print_system_info": (TEXT, []),
    "llama_model_default_params": (Parameters, []),
    "llama_context_default_params": (Parameters, []),
    "llama_model_load_from_file": (POINTER, [TEXT, Parameters]),
    "llama_model_free": (None, [POINTER]),
    "llama_model_get_vocab": (POINTER, [POINTER]),
    "llama_vocab_n_tokens": (INT, [POINTER]),
    "llama_vocab_get_add_bos": (BOOL, [POINTER]),
    "llama_vocab_bos": (INT, [POINTER]),
    "llama_init_from_model": (POINTER, [POINTER, Parameters]),
    "llama_free": (None, [POINTER]),
    "llama_set_n_threads": (None, [POINTER, INT, INT]),
    "llama_get_memory": (POINTER, [POINTER]),
    "llama_memory_clear": (None, [POINTER, BOOL]),
    "llama_memory_seq_rm": (BOOL, [POINTER, INT, INT, INT]),
    "llama_decode": (INT, [POINTER, Batch]),
    "llama_get_logits_ith": (ctypes.POINTER(ctypes.c_float), [POINTER, INT]),
    "llama_tokenize": (INT, [POINTER, TEXT, INT, INTS, INT, BOOL, BOOL]),
    "llama_state_seq_load_file": (SIZE, [POINTER, TEXT, INT, INTS, SIZE, ctypes.POINTER(SIZE)]),
    "llama_state_seq_save_file": (SIZE, [POINTER, TEXT, INT, INTS, SIZE]),
}
QUANTIZING = {
    "llama_model_quantize_default_params": (Parameters, []),
    "llama_model_quantize": (ctypes.c_uint32, [TEXT, TEXT, ctypes.POINTER(Parameters)]),
}
INFO_LEVEL = 2  # of ggml_log_level; below it is what is for debugging


def find_library():
    """The file with llama.cpp in it that an installed package has. Throws FileNotFoundError."""
    for package, pattern in (("llama_cpp", "lib/libllama.so"), ("llama_cpp_py_sync", "libllama.so"), ("xllamacpp", "xllamacpp*.so")):
        spec = importlib.util.find_spec(package)
        for folder in spec.submodule_search_locations if spec else []:
            for file in pathlib.Path(folder).glob(pattern):
                return file
    raise FileNotFoundError("no llama.cpp: pip install llama-cpp-python, or xllamacpp, or name a library that has its functions with --library")


class Library:
    def __init__(self, file=None):
        self.file = pathlib.Path(file or find_library())
        self.api = ctypes.CDLL(str(self.file.absolute()), mode=ctypes.RTLD_LOCAL)
        self.quantizes = hasattr(self.api, "llama_model_quantize")
        for name, (result, arguments) in (FUNCTIONS | (QUANTIZING if self.quantizes else {})).items():
            function = getattr(self.api, name)
            function.restype, function.argtypes = result, arguments
        self.messages = collections.deque(maxlen=1000)
        self.on_message = LOG_CALLBACK(self.keep_message)
        self.api.llama_log_set(self.on_message, None)
        self.api.llama_backend_init()

    def __getattr__(self, name):
        return getattr(self.api, name)

    def keep_message(self, level, text, _):
        if level >= INFO_LEVEL:
            self.messages.append(text.decode(errors="replace").strip())

    def said(self, *words):
        """The last thing that llama.cpp logged with one of the words in it."""
        return next((m for m in reversed(self.messages) if any(w in m for w in words)), "it does not say why")

    def quantize(self, source, target, file_type, threads):
        if not self.quantizes:
            raise RuntimeError(f"{self.file} has no llama_model_quantize: pip install llama-cpp-python, or llama-cpp-py-sync")
        parameters = self.api.llama_model_quantize_default_params()
        parameters.words[0], parameters.words[1] = threads, FILE_TYPES[file_type]
        if self.api.llama_model_quantize(str(source).encode(), str(target).encode(), ctypes.byref(parameters)) != 0:
            raise RuntimeError(f"llama.cpp does not quantize {source}: {self.said('fail', 'error')}")


class Model:
    """A model with one context of one sequence, K and V in binary16."""

    def __init__(self, library, path, context, threads=1, flash_attention=True):
        self.library = library
        self.model = library.llama_model_load_from_file(str(path).encode(), library.llama_model_default_params())
        if not self.model:
            raise RuntimeError(f"llama.cpp does not load {path}: {library.said('error', 'fail')}")
        parameters = library.llama_context_default_params()
        parameters.words[0] = parameters.words[1] = context  # n_ctx, n_batch
        parameters.words[flash_attention_word(parameters)] = int(flash_attention)
        self.context = library.llama_init_from_model(self.model, parameters)
        if not self.context:
            raise RuntimeError(f"llama.cpp makes no context for {path}: {library.said('error', 'fail')}")
        library.llama_set_n_threads(self.context, threads, threads)
        self.vocab = library.llama_model_get_vocab(self.model)
        self.vocab_size = library.llama_vocab_n_tokens(self.vocab)
        self.memory = library.llama_get_memory(self.context)
        self.length = 0

    def close(self):
        self.library.llama_free(self.context)
        self.library.llama_model_free(self.model)

    def tokenize(self, text):
        data = text.encode()
        ids = (ctypes.c_int32 * (len(data) + 8))()
        count = self.library.llama_tokenize(self.vocab, data, len(data), ids, len(ids), False, False)
        return list(ids[:count])

    def forget(self, length=0):
        """Goes back to a sequence of the first `length` tokens."""
        if length == 0:
            self.library.llama_memory_clear(self.memory, True)
        elif not self.library.llama_memory_seq_rm(self.memory, 0, length, -1):
            raise RuntimeError("llama.cpp does not take tokens back")
        self.length = length

    def load_state(self, path):
        """The token ids of a saved sequence, which it continues from here on; none if llama.cpp refuses the file."""
        ids, count = (ctypes.c_int32 * 64)(), ctypes.c_size_t()
        self.forget()
        if not self.library.llama_state_seq_load_file(self.context, str(path).encode(), 0, ids, len(ids), ctypes.byref(count)):
            return []
        self.length = count.value
        return list(ids[:count.value])

    def save_state(self, path, ids):
        return self.library.llama_state_seq_save_file(self.context, str(path).encode(), 0, (ctypes.c_int32 * len(ids))(*ids), len(ids)) > 0

    def logits(self, ids, first=0):
        """Appends tokens; logits [len(ids) - first, vocab] behind each from `first` on, which the next call overwrites."""
        count = len(ids)
        sequence = ctypes.pointer(ctypes.c_int32(0))
        batch = Batch(count, (ctypes.c_int32 * count)(*ids), None, (ctypes.c_int32 * count)(*range(self.length, self.length + count)), (ctypes.c_int32 * count)(*[1] * count),
                      (ctypes.POINTER(ctypes.c_int32) * count)(*[sequence] * count), (ctypes.c_int8 * count)(*[int(i >= first) for i in range(count)]))
        result = self.library.llama_decode(self.context, batch)
        if result != 0:
            raise RuntimeError(f"llama_decode: {result}; {self.library.said('error', 'fail')}")
        self.length += count
        return np.ctypeslib.as_array(self.library.llama_get_logits_ith(self.context, first), (count - first, self.vocab_size))


def flash_attention_word(parameters):
    """Where flash_attn_type is: the last of the enumerations that are -1 ("unspecified", "auto") by default, behind rope_scaling_type, pooling_type and attention_type."""
    words = list(parameters.words)
    for first in range(64):
        if words[first:first + 4] == [-1] * 4:
            return first + 3
    raise RuntimeError("this version of llama.cpp has other context parameters: no flash_attn_type found")
