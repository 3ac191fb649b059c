// The reclaim thread: frees frames before memory is so short that others have to wait (mm/reclaim/balance.hpp).
#pragma once

namespace loft {

// Starts the thread "reclaim". Boot thread, once, with threads. Without it, whoever wants memory reclaims.
void reclaim_thread_init();

} // namespace loft
