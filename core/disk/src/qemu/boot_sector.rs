//! Builds the probe guest: a boot sector that makes a processor do what a kernel does early, reports each step
//! on the first serial port, and ends qemu through its isa-debug-exit device.
//!
//! It is written by hand. The code below is for the address 0x7c00, at which firmware loads a boot sector. It
//! enables paging with tables at 0x1000 that map the first 2 MiB and, at 0xfec00000, the I/O APIC, which kvm
//! serves, and the HPET, which qemu serves.
//! Source: Intel SDM, volume 3, sections 10.8.5 (entering IA-32e mode) and 5.5 (4-level paging); QEMU,
//! hw/misc/debugexit.c, for the exit status.

/// The text that the guest prints when it has done everything.
pub(super) const WORD: &[u8] = b"build-image guest is running\n";
/// The exit status of qemu: the value written, doubled, plus one.
pub(super) const EXIT_STATUS: i32 = (EXIT_VALUE as i32) * 2 + 1;
/// The port of the exit device.
pub(super) const EXIT_PORT: u8 = 0xf4;
/// What the guest does, in its order. It prints `1` at the end of the first step (that is `port I/O`), and so on.
pub(super) const STEPS: [&str; 7] = [
    "port I/O",
    "CPUID",
    "timer interrupts",
    "protected mode",
    "64-bit mode with paging",
    "access to devices in memory",
    "computing",
];
/// What the guest prints at the end of each part of its last step.
pub(super) const CHUNK: u8 = b'.';
/// Number of these parts.
pub(super) const CHUNKS: u8 = 64;
/// Number of instructions in a part.
pub(super) const CHUNK_INSTRUCTIONS: u64 = 2 << 20;

const EXIT_VALUE: u8 = 0x10;
/// Offset of the text, which follows the code.
const TEXT_AT: usize = CODE.len();

#[rustfmt::skip]
const CODE: [u8; 0x14e] = [
        0xfc,                                      // 0x000         cld
        0xfa,                                      // 0x001         cli
        0x31, 0xc0,                                // 0x002         xor ax, ax
        0x8e, 0xd8,                                // 0x004         mov ds, ax
        0x8e, 0xc0,                                // 0x006         mov es, ax
        0x8e, 0xd0,                                // 0x008         mov ss, ax
        0x66, 0xbc, 0x00, 0x7c, 0x00, 0x00,        // 0x00a         mov esp, 0x7c00
        0xb0, 0x31,                                // 0x010         mov al, '1'
        0xe8, 0x63, 0x00,                          // 0x012         call put16
        0x66, 0xb8, 0x01, 0x00, 0x00, 0x80,        // 0x015         mov eax, 0x80000001
        0x0f, 0xa2,                                // 0x01b         cpuid
        0xb0, 0x32,                                // 0x01d         mov al, '2'
        0xe8, 0x56, 0x00,                          // 0x01f         call put16
        0xb3, 0x02,                                // 0x022         mov bl, 2
        0x8b, 0x0e, 0x6c, 0x04,                    // 0x024         mov cx, [0x46c]
        0xfb,                                      // 0x028         sti
        0xf4,                                      // 0x029         hlt
        0x3b, 0x0e, 0x6c, 0x04,                    // 0x02a         cmp cx, [0x46c]
        0x74, 0xf8,                                // 0x02e         je wait1
        0xfe, 0xcb,                                // 0x030         dec bl
        0x75, 0xf0,                                // 0x032         jnz tick
        0xfa,                                      // 0x034         cli
        0xb0, 0x33,                                // 0x035         mov al, '3'
        0xe8, 0x3e, 0x00,                          // 0x037         call put16
        0xbf, 0x00, 0x10,                          // 0x03a         mov di, 0x1000
        0x31, 0xc0,                                // 0x03d         xor ax, ax
        0xb9, 0x00, 0x20,                          // 0x03f         mov cx, 0x2000
        0xf3, 0xab,                                // 0x042         rep stosw
        0xc7, 0x06, 0x00, 0x10, 0x03, 0x20,        // 0x044         mov word ptr [0x1000], 0x2003
        0xc7, 0x06, 0x00, 0x20, 0x03, 0x30,        // 0x04a         mov word ptr [0x2000], 0x3003
        0xc7, 0x06, 0x18, 0x20, 0x03, 0x40,        // 0x050         mov word ptr [0x2018], 0x4003
        0xc7, 0x06, 0x00, 0x30, 0x83, 0x00,        // 0x056         mov word ptr [0x3000], 0x83
        0xbf, 0xb0, 0x4f,                          // 0x05c         mov di, 0x4fb0
        0x66, 0xc7, 0x05, 0x93, 0x00, 0xc0, 0xfe,  // 0x05f         mov dword ptr [di], 0xfec00093
        0x0f, 0x01, 0x16, 0x48, 0x7d,              // 0x066         lgdt [gdtr]
        0x0f, 0x20, 0xc0,                          // 0x06b         mov eax, cr0
        0x0c, 0x01,                                // 0x06e         or al, 1
        0x0f, 0x22, 0xc0,                          // 0x070         mov cr0, eax
        0xea,                                      // 0x073         .byte 0xea
        0x88, 0x7c,                                // 0x074         .word prot
        0x08, 0x00,                                // 0x076         .word 8
        0x88, 0xc4,                                // 0x078         mov ah, al
        0xba, 0xfd, 0x03,                          // 0x07a         mov dx, 0x3fd
        0xec,                                      // 0x07d again:  in al, dx
        0xa8, 0x20,                                // 0x07e         test al, 0x20
        0x74, 0xfb,                                // 0x080         jz again
        0x88, 0xe0,                                // 0x082         mov al, ah
        0xb2, 0xf8,                                // 0x084         mov dl, 0xf8
        0xee,                                      // 0x086         out dx, al
        0xc3,                                      // 0x087         ret
        0xb0, 0x34,                                // 0x088         mov al, '4'
        0xe8, 0x34, 0x00, 0x00, 0x00,              // 0x08a         call put32
        0xb8, 0x10, 0x00, 0x00, 0x00,              // 0x08f         mov eax, 0x10
        0x8e, 0xd8,                                // 0x094         mov ds, eax
        0x0f, 0x20, 0xe0,                          // 0x096         mov eax, cr4
        0x0c, 0x20,                                // 0x099         or al, 0x20
        0x0f, 0x22, 0xe0,                          // 0x09b         mov cr4, eax
        0xb8, 0x00, 0x10, 0x00, 0x00,              // 0x09e         mov eax, 0x1000
        0x0f, 0x22, 0xd8,                          // 0x0a3         mov cr3, eax
        0xb9, 0x80, 0x00, 0x00, 0xc0,              // 0x0a6         mov ecx, 0xc0000080
        0x0f, 0x32,                                // 0x0ab         rdmsr
        0x80, 0xcc, 0x01,                          // 0x0ad         or ah, 1
        0x0f, 0x30,                                // 0x0b0         wrmsr
        0x0f, 0x20, 0xc0,                          // 0x0b2         mov eax, cr0
        0x0f, 0xba, 0xe8, 0x1f,                    // 0x0b5         bts eax, 31
        0x0f, 0x22, 0xc0,                          // 0x0b9         mov cr0, eax
        0xea,                                      // 0x0bc         .byte 0xea
        0xd5, 0x7c, 0x00, 0x00,                    // 0x0bd         .long long
        0x18, 0x00,                                // 0x0c1         .word 0x18
        0x88, 0xc4,                                // 0x0c3         mov ah, al
        0xba, 0xfd, 0x03, 0x00, 0x00,              // 0x0c5         mov edx, 0x3fd
        0xec,                                      // 0x0ca again:  in al, dx
        0xa8, 0x20,                                // 0x0cb         test al, 0x20
        0x74, 0xfb,                                // 0x0cd         jz again
        0x88, 0xe0,                                // 0x0cf         mov al, ah
        0xb2, 0xf8,                                // 0x0d1         mov dl, 0xf8
        0xee,                                      // 0x0d3         out dx, al
        0xc3,                                      // 0x0d4         ret
        0xb0, 0x35,                                // 0x0d5         mov al, '5'
        0xe8, 0xe7, 0xff, 0xff, 0xff,              // 0x0d7         call put32
        0xbb, 0x00, 0x00, 0xd0, 0xfe,              // 0x0dc         mov ebx, 0xfed00000
        0x8b, 0x03,                                // 0x0e1         mov eax, [rbx]
        0x8b, 0x43, 0x04,                          // 0x0e3         mov eax, [rbx + 4]
        0xbb, 0x00, 0x00, 0xc0, 0xfe,              // 0x0e6         mov ebx, 0xfec00000
        0x8b, 0x43, 0x10,                          // 0x0eb         mov eax, [rbx + 16]
        0xb0, 0x36,                                // 0x0ee         mov al, '6'
        0xe8, 0xce, 0xff, 0xff, 0xff,              // 0x0f0         call put32
        0xb3, CHUNKS,                              // 0x0f5         mov bl, 64
        0xb9, 0x00, 0x00, 0x10, 0x00,              // 0x0f7         mov ecx, 0x100000
        0xff, 0xc9,                                // 0x0fc again:  dec ecx
        0x75, 0xfc,                                // 0x0fe         jnz again
        0xb0, 0x2e,                                // 0x100         mov al, '.'
        0xe8, 0xbc, 0xff, 0xff, 0xff,              // 0x102         call put32
        0xfe, 0xcb,                                // 0x107         dec bl
        0x75, 0xec,                                // 0x109         jnz chunk
        0xbe, 0x4e, 0x7d, 0x00, 0x00,              // 0x10b         mov esi, text
        0xac,                                      // 0x110         lodsb
        0x84, 0xc0,                                // 0x111         test al, al
        0x74, 0x07,                                // 0x113         jz done
        0xe8, 0xa9, 0xff, 0xff, 0xff,              // 0x115         call put32
        0xeb, 0xf4,                                // 0x11a         jmp next
        0xb0, EXIT_VALUE,                          // 0x11c         mov al, 0x10
        0xe6, EXIT_PORT,                           // 0x11e         out 0xf4, al
        0xfa,                                      // 0x120         cli
        0xf4,                                      // 0x121         hlt
        0xeb, 0xfd,                                // 0x122         jmp stop
        0x0f, 0x1f, 0x40, 0x00,                    // 0x124         (alignment)
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, // 0x128 gdt:    .quad 0
        0xff, 0xff, 0x00, 0x00, 0x00, 0x9a, 0xcf, 0x00, // 0x130         .quad 0x00cf9a000000ffff
        0xff, 0xff, 0x00, 0x00, 0x00, 0x92, 0xcf, 0x00, // 0x138         .quad 0x00cf92000000ffff
        0xff, 0xff, 0x00, 0x00, 0x00, 0x9a, 0xaf, 0x00, // 0x140         .quad 0x00af9a000000ffff
        0x1f, 0x00,                                // 0x148 gdtr:   .word 31
        0x28, 0x7d, 0x00, 0x00,                    // 0x14a         .long gdt
];

/// Returns the 512 bytes of the sector.
pub(super) fn sector() -> [u8; 512] {
    let mut sector = [0; 512];
    sector[..TEXT_AT].copy_from_slice(&CODE);
    // The code prints a new line first, because the steps end without one.
    sector[TEXT_AT] = b'\n';
    sector[TEXT_AT + 1..][..WORD.len()].copy_from_slice(WORD);
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    sector
}
