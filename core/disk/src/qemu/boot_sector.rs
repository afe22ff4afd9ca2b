//! Builds the probe guest: a boot sector that prints a word on the first serial port and ends qemu through
//! its isa-debug-exit device. 16-bit code, written by hand; QEMU documents the exit status of the device.

/// The text that the guest prints.
pub(super) const WORD: &[u8] = b"build-image guest is running\n";
/// The exit status of qemu: the value written, doubled, plus one.
pub(super) const EXIT_STATUS: i32 = (EXIT_VALUE as i32) * 2 + 1;
/// The port of the exit device.
pub(super) const EXIT_PORT: u8 = 0xf4;

const EXIT_VALUE: u8 = 0x10;
/// Length of the code, which is the offset of the text; sectors are loaded at 0x7c00.
const TEXT_AT: u8 = 39;

/// Returns the 512 bytes of the sector.
pub(super) fn sector() -> [u8; 512] {
    #[rustfmt::skip]
    let code = [
        0xfc,                   //  0        cld
        0x31, 0xc0,             //  1        xor  ax, ax
        0x8e, 0xd8,             //  3        mov  ds, ax
        0xbe, TEXT_AT, 0x7c,    //  5        mov  si, text
        0xac,                   //  8  next: lodsb
        0x84, 0xc0,             //  9        test al, al
        0x74, 0x12,             // 11        jz   done
        0x88, 0xc4,             // 13        mov  ah, al
        0xba, 0xfd, 0x03,       // 15        mov  dx, 0x3fd   ; line status
        0xec,                   // 18  wait: in   al, dx
        0xa8, 0x20,             // 19        test al, 0x20    ; transmitter empty
        0x74, 0xfb,             // 21        jz   wait
        0x88, 0xe0,             // 23        mov  al, ah
        0xba, 0xf8, 0x03,       // 25        mov  dx, 0x3f8   ; data
        0xee,                   // 28        out  dx, al
        0xeb, 0xe9,             // 29        jmp  next
        0xb0, EXIT_VALUE,       // 31  done: mov  al, EXIT_VALUE
        0xe6, EXIT_PORT,        // 33        out  EXIT_PORT, al
        0xfa,                   // 35        cli
        0xf4,                   // 36  stop: hlt
        0xeb, 0xfd,             // 37        jmp  stop
    ];
    let text_at = usize::from(TEXT_AT);
    let mut sector = [0; 512];
    sector[..text_at].copy_from_slice(&code);
    sector[text_at..text_at + WORD.len()].copy_from_slice(WORD);
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    sector
}
