// What GCC 12's headers want of newer C and C++ libraries than manylinux_2_28 has, in terms of what those have had for
// long. All are hidden, so that only this module sees them. Compiled for wheels alone (setup.py, SRFAST_OLD_RUNTIME).
#if defined(SRFAST_OLD_RUNTIME)
#include <condition_variable>
#include <mutex>
#include <new>

#define HIDDEN_AS(name) __asm__(name) __attribute__((visibility("hidden")))

// glibc 2.32: whether counters of references may do without atomic operations. They need not.
extern "C" char hidden_single_threaded HIDDEN_AS("__libc_single_threaded");
char hidden_single_threaded = 0;

// GLIBCXX_3.4.29: the end of new[] with a length that no memory has.
extern "C" [[noreturn]] void hidden_bad_length() HIDDEN_AS("_ZSt28__throw_bad_array_new_lengthv");
void hidden_bad_length() { throw std::bad_array_new_length(); }

// GLIBCXX_3.4.30; 3.4.11 had it under the same name.
extern "C" void hidden_wait(std::condition_variable* self, std::unique_lock<std::mutex>& lock)
    HIDDEN_AS("_ZNSt18condition_variable4waitERSt11unique_lockISt5mutexE");
void hidden_wait(std::condition_variable* self, std::unique_lock<std::mutex>& lock) {
    pthread_cond_wait(self->native_handle(), lock.mutex()->native_handle());
}

// CXXABI_1.3.13: one reference more or less to an exception. A copy of a std::exception_ptr takes one and its end gives one
// back (CXXABI_1.3.3); the copy made here is never ended.
extern "C" void copy_of(void* copy, const void* pointer) __asm__("_ZNSt15__exception_ptr13exception_ptrC1ERKS0_");
extern "C" void end_of(void* pointer) __asm__("_ZNSt15__exception_ptr13exception_ptrD1Ev");

extern "C" void hidden_one_more(void* self) HIDDEN_AS("_ZNSt15__exception_ptr13exception_ptr9_M_addrefEv");
void hidden_one_more(void* self) {
    void* copy = nullptr;
    copy_of(&copy, self);
}

extern "C" void hidden_one_less(void* self) HIDDEN_AS("_ZNSt15__exception_ptr13exception_ptr10_M_releaseEv");
void hidden_one_less(void* self) { end_of(self); }
#endif
