// What clang checks about locks (Clang documentation, "Thread Safety Analysis"): which fields a lock guards, and which
// functions are called with it held. Other compilers see nothing of it.
#pragma once

#if defined(__clang__)
#define LOFT_THREAD_SAFETY(attribute) __attribute__((attribute))
#else
#define LOFT_THREAD_SAFETY(attribute)
#endif

// A type that is a lock, and one whose objects hold a lock as long as they live.
#define LOFT_LOCK(name) LOFT_THREAD_SAFETY(capability(name))
#define LOFT_GUARD LOFT_THREAD_SAFETY(scoped_lockable)
// A field that is read and written with this lock held only.
#define LOFT_GUARDED_BY(lock) LOFT_THREAD_SAFETY(guarded_by(lock))
// A function: the caller holds the lock; takes it; gives it back; must not hold it.
#define LOFT_REQUIRES(...) LOFT_THREAD_SAFETY(requires_capability(__VA_ARGS__))
#define LOFT_TAKES(...) LOFT_THREAD_SAFETY(acquire_capability(__VA_ARGS__))
#define LOFT_TRIES(...) LOFT_THREAD_SAFETY(try_acquire_capability(__VA_ARGS__))
#define LOFT_GIVES_BACK(...) LOFT_THREAD_SAFETY(release_capability(__VA_ARGS__))
// A function that is not looked at: while nobody else can be there (boot, a reset), or where a lock goes from one
// thread to another. The reason stands beside it.
#define LOFT_UNCHECKED LOFT_THREAD_SAFETY(no_thread_safety_analysis)
