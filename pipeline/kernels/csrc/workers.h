/* A few threads that help: run(job, of, parts, threads) calls job(of, 0 .. parts-1, parts), each part
 * once, by whoever comes first; the caller does what nobody else has begun, so a helper that the
 * system does not run holds nobody up. One job at a time; who comes while another runs does all parts
 * alone. None of this changes a bit. Helpers wait a moment for the next job before they go to sleep,
 * since one layer asks many times within a millisecond.
 *
 * A part is claimed by counting up `ticket`, which holds the job's number too: a helper that comes
 * late finds another number and touches nothing of a job that is over.
 */
#include <pthread.h>
#include <stdatomic.h>

#define MOST_THREADS 64
#define SPINS 2000

typedef void (*job_function)(void *of, size_t part, size_t parts);

static struct {
    pthread_mutex_t entry, lock;
    pthread_cond_t wake, done;
    _Atomic uint64_t ticket; /* number of the job << 32 | its next part */
    atomic_size_t left;      /* parts that are not done */
    size_t hired, threads, parts;
    job_function job;
    void *of;
} workers = {.entry = PTHREAD_MUTEX_INITIALIZER,
             .lock = PTHREAD_MUTEX_INITIALIZER,
             .wake = PTHREAD_COND_INITIALIZER,
             .done = PTHREAD_COND_INITIALIZER};

static inline uint32_t round_now(void) { return (uint32_t)(atomic_load(&workers.ticket) >> 32); }

static inline void relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

/* Does parts of job number `round` until none is left to begin. */
static void help(uint32_t round, job_function job, void *of, size_t parts) {
    uint64_t ticket = atomic_load(&workers.ticket);
    while ((uint32_t)(ticket >> 32) == round && (uint32_t)ticket < parts) {
        if (!atomic_compare_exchange_weak(&workers.ticket, &ticket, ticket + 1)) continue;
        job(of, (uint32_t)ticket, parts);
        if (atomic_fetch_sub(&workers.left, 1) == 1) {
            pthread_mutex_lock(&workers.lock);
            pthread_cond_signal(&workers.done);
            pthread_mutex_unlock(&workers.lock);
        }
        ticket = atomic_load(&workers.ticket);
    }
}

static void *work(void *argument) {
    const size_t number = (size_t)argument;
    uint32_t seen = 0;
    for (;;) {
        for (int i = 0; i < SPINS && round_now() == seen; i++) relax();
        pthread_mutex_lock(&workers.lock);
        while (round_now() == seen) pthread_cond_wait(&workers.wake, &workers.lock);
        seen = round_now();
        const size_t parts = number < workers.threads ? workers.parts : 0;
        const job_function job = workers.job;
        void *of = workers.of;
        pthread_mutex_unlock(&workers.lock);
        help(seen, job, of, parts);
    }
    return 0;
}

/* A forked child has none of the threads: it begins anew. */
static void forked(void) {
    pthread_mutex_init(&workers.entry, 0);
    pthread_mutex_init(&workers.lock, 0);
    pthread_cond_init(&workers.wake, 0);
    pthread_cond_init(&workers.done, 0);
    atomic_store(&workers.ticket, 0);
    workers.hired = 0;
}

/* Sees to it that there are `wanted` threads, the caller's included, if there can be. Called with
 * `entry` held, so that no job is running that a new thread could take for its own. */
static void hire(size_t wanted) {
    static int handled = 0;
    if (!handled) handled = !pthread_atfork(0, 0, forked);
    if (!workers.hired) workers.hired = 1;
    while (workers.hired < wanted) {
        pthread_t thread;
        pthread_attr_t detached;
        pthread_attr_init(&detached);
        pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
        const int failed = pthread_create(&thread, &detached, work, (void *)workers.hired);
        pthread_attr_destroy(&detached);
        if (failed) break;
        workers.hired++;
    }
}

static void run(job_function job, void *of, size_t parts, size_t threads) {
    if (threads > MOST_THREADS) threads = MOST_THREADS;
    if (parts < 2 || threads < 2 || pthread_mutex_trylock(&workers.entry)) {
        job(of, 0, 1);
        return;
    }
    hire(threads);
    pthread_mutex_lock(&workers.lock);
    workers.job = job;
    workers.of = of;
    workers.parts = parts;
    workers.threads = threads;
    atomic_store(&workers.left, parts);
    const uint32_t round = round_now() + 1;
    atomic_store(&workers.ticket, (uint64_t)round << 32);
    pthread_cond_broadcast(&workers.wake);
    pthread_mutex_unlock(&workers.lock);
    help(round, job, of, parts);
    for (int i = 0; i < SPINS && atomic_load(&workers.left); i++) relax();
    pthread_mutex_lock(&workers.lock);
    while (atomic_load(&workers.left)) pthread_cond_wait(&workers.done, &workers.lock);
    pthread_mutex_unlock(&workers.lock);
    pthread_mutex_unlock(&workers.entry);
}
