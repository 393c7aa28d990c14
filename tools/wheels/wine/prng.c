/* bcryptprimitives.dll for Wine 8, which lacks it: Rust's standard library takes random bytes from its ProcessPrng.
   For tests alone; it is in no wheel. */
#include <windows.h>
#include <ntsecapi.h>

__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE bytes, SIZE_T length) {
    return RtlGenRandom(bytes, (ULONG)length);
}
