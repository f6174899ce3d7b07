#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "autograd/base/crc32c.h"

/* RFC 3720, B.4, and the check value of the catalogues of CRCs. */
static void known_vectors(void **state)
{
    (void)state;
    unsigned char b[32];
    assert_int_equal(crc32c("", 0), 0);
    assert_int_equal(crc32c("123456789", 9), 0xe3069283);
    memset(b, 0, 32);
    assert_int_equal(crc32c(b, 32), 0x8a9136aa);
    memset(b, 0xff, 32);
    assert_int_equal(crc32c(b, 32), 0x62a8ab43);
    for (int i = 0; i < 32; i++)
        b[i] = (unsigned char)i;
    assert_int_equal(crc32c(b, 32), 0x46dd794e);
    for (int i = 0; i < 32; i++)
        b[i] = (unsigned char)(31 - i);
    assert_int_equal(crc32c(b, 32), 0x113fdb5c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(known_vectors)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
