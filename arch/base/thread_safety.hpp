// Annotations for clang's lock checks (Clang documentation, "Thread Safety Analysis"): which lock guards a field, and
// which functions are called with a lock held. Empty for other compilers.
#pragma once

#if defined(__clang__)
#define LOFT_THREAD_SAFETY(attribute) __attribute__((attribute))
#else
#define LOFT_THREAD_SAFETY(attribute)
#endif

// A type that is a lock; a type with objects that hold a lock during their lifetime.
#define LOFT_LOCK(name) LOFT_THREAD_SAFETY(capability(name))
#define LOFT_GUARD LOFT_THREAD_SAFETY(scoped_lockable)
// A field that may be accessed only with this lock held.
#define LOFT_GUARDED_BY(lock) LOFT_THREAD_SAFETY(guarded_by(lock))
// A function that needs the lock held by its caller; that takes it; that tries to take it; that releases it.
#define LOFT_REQUIRES(...) LOFT_THREAD_SAFETY(requires_capability(__VA_ARGS__))
#define LOFT_TAKES(...) LOFT_THREAD_SAFETY(acquire_capability(__VA_ARGS__))
#define LOFT_TRIES(...) LOFT_THREAD_SAFETY(try_acquire_capability(__VA_ARGS__))
#define LOFT_GIVES_BACK(...) LOFT_THREAD_SAFETY(release_capability(__VA_ARGS__))
// A function that is not checked: no other CPU runs yet (boot, a reset), or a lock passes from one thread to another.
// The reason stands beside it.
#define LOFT_UNCHECKED LOFT_THREAD_SAFETY(no_thread_safety_analysis)
