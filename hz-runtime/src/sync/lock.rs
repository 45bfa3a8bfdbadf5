//! Locks that a task may hold across `await`.

use super::named;
use crate::probe::{self, Cause, Wait};
use std::ops::{Deref, DerefMut};

/// A guard of `async-lock`, whose release is the cause of the wake-ups in it.
#[derive(Debug)]
struct Held<G> {
    /// There until it is dropped.
    guard: Option<G>,
    address: usize,
}

impl<G> Held<G> {
    fn new<L: ?Sized>(lock: &L, guard: G) -> Self {
        Self { guard: Some(guard), address: std::ptr::from_ref(lock).cast::<()>().addr() }
    }

    async fn acquire<L: ?Sized>(lock: &L, acquiring: impl Future<Output = G>) -> Self {
        let address = std::ptr::from_ref(lock).cast::<()>().addr();
        let guard = named(acquiring, Wait::Lock(address), Cause::Lock(address)).await;
        Self { guard: Some(guard), address }
    }

    fn get(&self) -> &G {
        self.guard.as_ref().expect("it is there until it is dropped")
    }

    fn get_mut(&mut self) -> &mut G {
        self.guard.as_mut().expect("it is there until it is dropped")
    }
}

impl<G> Drop for Held<G> {
    fn drop(&mut self) {
        probe::with_cause(Cause::Lock(self.address), || self.guard = None);
    }
}

/// A lock for one task at a time, in the order in which they came.
#[derive(Debug, Default)]
pub struct Mutex<T: ?Sized> {
    inner: async_lock::Mutex<T>,
}

/// Holds a [`Mutex`].
#[derive(Debug)]
pub struct MutexGuard<'a, T: ?Sized>(Held<async_lock::MutexGuard<'a, T>>);

impl<T> Mutex<T> {
    /// An open lock.
    pub const fn new(value: T) -> Self {
        Self { inner: async_lock::Mutex::new(value) }
    }

    /// What it guards.
    pub fn into_inner(self) -> T {
        self.inner.into_inner()
    }
}

impl<T: ?Sized> Mutex<T> {
    /// Locks it, when it is open.
    pub async fn lock(&self) -> MutexGuard<'_, T> {
        MutexGuard(Held::acquire(&self.inner, self.inner.lock()).await)
    }

    /// Locks it, if it is open.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        Some(MutexGuard(Held::new(&self.inner, self.inner.try_lock()?)))
    }

    /// What it guards; nobody else holds it.
    pub fn get_mut(&mut self) -> &mut T {
        self.inner.get_mut()
    }
}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.get()
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.get_mut()
    }
}

/// A lock for one writer or many readers.
#[derive(Debug, Default)]
pub struct RwLock<T: ?Sized> {
    inner: async_lock::RwLock<T>,
}

/// Reads what a [`RwLock`] guards.
#[derive(Debug)]
pub struct RwLockReadGuard<'a, T: ?Sized>(Held<async_lock::RwLockReadGuard<'a, T>>);

/// Changes what a [`RwLock`] guards.
#[derive(Debug)]
pub struct RwLockWriteGuard<'a, T: ?Sized>(Held<async_lock::RwLockWriteGuard<'a, T>>);

impl<T> RwLock<T> {
    /// An open lock.
    pub const fn new(value: T) -> Self {
        Self { inner: async_lock::RwLock::new(value) }
    }

    /// What it guards.
    pub fn into_inner(self) -> T {
        self.inner.into_inner()
    }
}

impl<T: ?Sized> RwLock<T> {
    /// Locks it for reading, when nobody writes.
    pub async fn read(&self) -> RwLockReadGuard<'_, T> {
        RwLockReadGuard(Held::acquire(&self.inner, self.inner.read()).await)
    }

    /// Locks it for writing, when it is open.
    pub async fn write(&self) -> RwLockWriteGuard<'_, T> {
        RwLockWriteGuard(Held::acquire(&self.inner, self.inner.write()).await)
    }

    /// Locks it for reading, if nobody writes.
    pub fn try_read(&self) -> Option<RwLockReadGuard<'_, T>> {
        Some(RwLockReadGuard(Held::new(&self.inner, self.inner.try_read()?)))
    }

    /// Locks it for writing, if it is open.
    pub fn try_write(&self) -> Option<RwLockWriteGuard<'_, T>> {
        Some(RwLockWriteGuard(Held::new(&self.inner, self.inner.try_write()?)))
    }
}

impl<T: ?Sized> Deref for RwLockReadGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.get()
    }
}

impl<T: ?Sized> Deref for RwLockWriteGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.get()
    }
}

impl<T: ?Sized> DerefMut for RwLockWriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.get_mut()
    }
}

/// Permits, of which each holder has one.
#[derive(Debug)]
pub struct Semaphore {
    inner: async_lock::Semaphore,
}

/// One permit of a [`Semaphore`].
#[derive(Debug)]
pub struct SemaphoreGuard<'a> {
    #[expect(dead_code, reason = "dropping it is what it is for")]
    held: Held<async_lock::SemaphoreGuard<'a>>,
}

impl Semaphore {
    /// With so many permits.
    #[must_use]
    pub const fn new(permits: usize) -> Self {
        Self { inner: async_lock::Semaphore::new(permits) }
    }

    /// Takes a permit, when there is one.
    pub async fn acquire(&self) -> SemaphoreGuard<'_> {
        SemaphoreGuard { held: Held::acquire(&self.inner, self.inner.acquire()).await }
    }

    /// Takes a permit, if there is one.
    #[must_use]
    pub fn try_acquire(&self) -> Option<SemaphoreGuard<'_>> {
        Some(SemaphoreGuard { held: Held::new(&self.inner, self.inner.try_acquire()?) })
    }

    /// Adds permits.
    pub fn add_permits(&self, permits: usize) {
        let address = std::ptr::from_ref(&self.inner).addr();
        probe::with_cause(Cause::Lock(address), || self.inner.add_permits(permits));
    }
}
