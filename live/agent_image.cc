// The program of live/agent/agent.cc, which the build has made before.
#ifdef CKPT_AGENT  // x86-64
asm(R"(
    .section .rodata
    .globl ckpt_agent_image, ckpt_agent_image_end
    .balign 16
ckpt_agent_image:
    .incbin ")" CKPT_AGENT R"("
ckpt_agent_image_end:
    .byte 0
    .text
)");
#endif
