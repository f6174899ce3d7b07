#include "experiments/interrupt.h"

#include <string.h>
#include <unistd.h>

volatile sig_atomic_t interrupt_flag;

static void caught(int sig)
{
    if (interrupt_flag && sig == SIGINT)
        _exit(128 + SIGINT);
    interrupt_flag = sig;
}

void interrupt_catch(void)
{
    struct sigaction a;
    memset(&a, 0, sizeof a);
    sigemptyset(&a.sa_mask);
    a.sa_flags = SA_RESTART;
    a.sa_handler = caught;
    sigaction(SIGINT, &a, NULL);
    sigaction(SIGTERM, &a, NULL);
    a.sa_handler = SIG_IGN;
    sigaction(SIGXFSZ, &a, NULL);
    sigaction(SIGPIPE, &a, NULL);
}

const char *interrupt_name(void)
{
    return interrupt_flag == SIGTERM ? "SIGTERM" : "SIGINT";
}
