/* A few threads that wait for work: run(job, of, parts) calls job(of, 0 .. parts-1), part 0 in the
 * caller's thread. One job at a time; whoever comes while another runs does all parts itself, which
 * takes longer and changes no bit. Threads wait a moment for the next job before they go to sleep,
 * since one layer asks many times within a millisecond.
 */
#include <pthread.h>
#include <stdatomic.h>

#define MOST_THREADS 64
#define SPINS 4000

typedef void (*job_function)(void *of, size_t part, size_t parts);

static struct {
    pthread_mutex_t entry, lock;
    pthread_cond_t wake, done;
    atomic_uint round;  /* counts jobs */
    atomic_size_t left; /* parts still running */
    size_t threads, parts;
    job_function job;
    void *of;
} workers = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER,
             PTHREAD_COND_INITIALIZER, 0, 0, 0, 0, 0, 0};

static inline void relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

static void *work(void *argument) {
    const size_t part = (size_t)argument;
    unsigned seen = 0;
    for (;;) {
        for (int i = 0; i < SPINS && atomic_load(&workers.round) == seen; i++) relax();
        pthread_mutex_lock(&workers.lock);
        while (atomic_load(&workers.round) == seen) pthread_cond_wait(&workers.wake, &workers.lock);
        seen = atomic_load(&workers.round);
        const size_t parts = workers.parts;
        const job_function job = workers.job;
        void *of = workers.of;
        pthread_mutex_unlock(&workers.lock);
        if (part >= parts) continue;
        job(of, part, parts);
        if (atomic_fetch_sub(&workers.left, 1) == 1) {
            pthread_mutex_lock(&workers.lock);
            pthread_cond_signal(&workers.done);
            pthread_mutex_unlock(&workers.lock);
        }
    }
    return 0;
}

/* A forked child has none of the threads: it begins anew. */
static void forked(void) {
    pthread_mutex_init(&workers.entry, 0);
    pthread_mutex_init(&workers.lock, 0);
    pthread_cond_init(&workers.wake, 0);
    pthread_cond_init(&workers.done, 0);
    atomic_store(&workers.round, 0);
    workers.threads = 0;
}

/* Sees to it that there are `wanted` threads, the caller's included; fewer where there can be no more.
 * Called with `entry` held. New threads have seen no job, so none may be running. */
static size_t hire(size_t wanted) {
    static int handled = 0;
    if (!handled) handled = !pthread_atfork(0, 0, forked);
    if (!workers.threads) workers.threads = 1;
    while (workers.threads < wanted) {
        pthread_t thread;
        pthread_attr_t detached;
        pthread_attr_init(&detached);
        pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
        const int failed = pthread_create(&thread, &detached, work, (void *)workers.threads);
        pthread_attr_destroy(&detached);
        if (failed) break;
        workers.threads++;
    }
    return workers.threads < wanted ? workers.threads : wanted;
}

static void run(job_function job, void *of, size_t parts) {
    if (parts > MOST_THREADS) parts = MOST_THREADS;
    if (parts < 2 || pthread_mutex_trylock(&workers.entry)) {
        job(of, 0, 1);
        return;
    }
    parts = hire(parts);
    if (parts < 2) {
        pthread_mutex_unlock(&workers.entry);
        job(of, 0, 1);
        return;
    }
    pthread_mutex_lock(&workers.lock);
    workers.job = job;
    workers.of = of;
    workers.parts = parts;
    atomic_store(&workers.left, parts - 1);
    atomic_fetch_add(&workers.round, 1);
    pthread_cond_broadcast(&workers.wake);
    pthread_mutex_unlock(&workers.lock);
    job(of, 0, parts);
    for (int i = 0; i < SPINS && atomic_load(&workers.left); i++) relax();
    pthread_mutex_lock(&workers.lock);
    while (atomic_load(&workers.left)) pthread_cond_wait(&workers.done, &workers.lock);
    pthread_mutex_unlock(&workers.lock);
    pthread_mutex_unlock(&workers.entry);
}
