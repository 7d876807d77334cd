// What the samples in docs/sdk/android.md use of Android, so that they compile without it.
package android.net

class Network

abstract class ConnectivityManager {
    open class NetworkCallback {
        open fun onAvailable(network: Network) {}
    }

    abstract fun registerDefaultNetworkCallback(callback: NetworkCallback)
}
