/* Named by bcc's prologue; nothing in it is used. */
#pragma once
