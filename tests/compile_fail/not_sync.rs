// error: cannot be shared between threads safely
fn shared<T: Sync>() {}

fn main() {
    shared::<shmcast::TypedWriter<u64>>();
}
