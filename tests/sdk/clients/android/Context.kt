// What the samples in docs/sdk/android.md use of Android, so that they compile without it.
package android.content

import java.io.File

abstract class Context {
    abstract val filesDir: File
    abstract fun <T> getSystemService(service: Class<T>): T
}
