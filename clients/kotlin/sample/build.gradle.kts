// Not run by the tests of this repository: they compile the sources by Kotlin's own compiler of the version here, and no
// Android SDK saw these lines. clients/java/build.sh, then clients/kotlin/fetch.sh and build.sh make the three jars; a
// bundle of `export --target onnx` is the folder src/main/assets/bundle.
buildscript {
    dependencies { classpath("org.jetbrains.kotlin:kotlin-gradle-plugin:2.4.20") } // the plugin below takes it
}

plugins {
    id("com.android.application") version "9.1.0" // Gradle 9.2.1, JDK 17; Kotlin is built in
}

android {
    namespace = "mobileclip.sample"
    compileSdk = 36
    defaultConfig {
        applicationId = "mobileclip.sample"
        minSdk = 28 // ImageDecoder's; the library needs 24
        targetSdk = 36
    }
    buildTypes {
        release {
            isMinifyEnabled = true // the rules come with the jars
            proguardFiles(getDefaultProguardFile("proguard-android-optimize.txt"))
        }
    }
    androidResources { noCompress += "onnx" }
}

dependencies {
    implementation(files("../../java/build/mobileclip.jar"))
    implementation(files("../build/mobileclip-onnx.jar", "../build/mobileclip-kotlin.jar"))
    implementation("com.microsoft.onnxruntime:onnxruntime-android:1.29.0")
}
