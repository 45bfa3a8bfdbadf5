//! User probe `uprobe`: marks and spans of functions in user space.
#![no_std]
#![no_main]
